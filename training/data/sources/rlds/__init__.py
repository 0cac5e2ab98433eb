"""RLDS data sets as TensorFlow Datasets writes them, read without TensorFlow."""

from .source import RldsSource

__all__ = ["RldsSource"]

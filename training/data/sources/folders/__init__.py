"""Folders of videos, and folders of folders of pictures, with instructions in a file beside them."""

from .frames import FramesSource
from .videos import VideosSource

__all__ = ["FramesSource", "VideosSource"]

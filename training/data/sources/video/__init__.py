"""Video files through PyAV."""

from .file import SUFFIXES, VideoFile, open_video

__all__ = ["SUFFIXES", "VideoFile", "open_video"]

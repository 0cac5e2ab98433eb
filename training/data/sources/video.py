"""Video files through PyAV: chosen frames at exact times, with as little decoding as the key frames allow."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import av
import numpy as np

from ...errors import TrainingError
from .base import THUMBNAIL_PX

SUFFIXES = (".mp4", ".mkv", ".webm", ".mov", ".avi", ".m4v")


class VideoFile:
    """A video whose packets are indexed once.

    Args:
        path: the file.

    Attributes:
        times: (N,) when each frame is shown [s], ascending.

    Raises:
        TrainingError: the file is missing, is no video, or is cut off.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_file():
            raise TrainingError(f"video {path} does not exist")
        try:
            self._container = av.open(str(path))
            if not self._container.streams.video:
                raise TrainingError(f"video {path} contains no video stream")
            self._stream = self._container.streams.video[0]
            # one thread: frames are few and far apart, and the work is spread over processes already
            self._stream.codec_context.thread_count = 1
            packets = [
                (packet.pts, packet.dts, packet.is_keyframe)
                for packet in self._container.demux(self._stream)
                if packet.pts is not None and packet.size and not packet.is_discard
            ]
        except av.FFmpegError as error:
            raise self._broken(error) from error
        if not packets:
            raise TrainingError(f"video {path} contains no frame: it is empty or truncated")
        self._check_length(len(packets))
        self._pts = np.array(sorted(packet[0] for packet in packets), np.int64)
        self._keys = np.array(sorted(packet[0] for packet in packets if packet[2]) or [self._pts[0]], np.int64)
        self.times = self._pts * float(self._stream.time_base)
        self._decoder: Iterator | None = None
        self._position = -1

    def at_times(self, times: np.ndarray, tolerance: float) -> np.ndarray:
        """Frames (N, H, W, 3) uint8 nearest to `times` (N,) [s].

        Raises:
            TrainingError: no frame within `tolerance` [s], or the file is broken.
        """
        after = np.clip(np.searchsorted(self.times, times), 1, len(self.times) - 1) if len(self.times) > 1 else 0
        before = np.maximum(after - 1, 0)
        nearest = np.where(np.abs(self.times[before] - times) <= np.abs(self.times[after] - times), before, after)
        far = np.abs(self.times[nearest] - times) > tolerance
        if far.any():
            raise TrainingError(
                f"video {self.path} has no frame at {times[far][0]:.3f} s: it runs from {self.times[0]:.3f} to "
                f"{self.times[-1]:.3f} s (truncated, or it belongs to other data)"
            )
        return self.at(nearest.tolist())

    def at(self, indices: Sequence[int]) -> np.ndarray:
        """Frames (N, H, W, 3) uint8 by number, ascending; may repeat."""
        pictures: list[np.ndarray] = []
        last = None
        for index in indices:
            if index != last:
                picture = self._frame(int(self._pts[index])).to_ndarray(format="rgb24")
            pictures.append(picture)
            last = index
        return np.stack(pictures)

    def thumbnails(self, first: int, count: int) -> np.ndarray:
        """Small grey pictures (count, h, w) uint8 of neighbouring frames, scaled by the decoder."""
        height = min(THUMBNAIL_PX, self._stream.height)
        width = max(1, round(self._stream.width * height / self._stream.height))
        return np.stack(
            [
                self._frame(int(pts)).to_ndarray(width=width, height=height, format="gray")
                for pts in self._pts[first : first + count]
            ]
        )

    def index_of(self, time: float) -> int:
        """Number of the frame nearest to a time [s]."""
        return int(np.abs(self.times - time).argmin())

    def _frame(self, pts: int) -> av.VideoFrame:
        try:
            key = int(np.searchsorted(self._keys, pts, "right")) - 1
            if self._decoder is None or pts <= self._position or self._keys[max(key, 0)] > self._position:
                return self._seek(pts, key)
            return self._forward(pts)
        except av.FFmpegError as error:
            raise self._broken(error) from error

    def _seek(self, pts: int, key: int) -> av.VideoFrame:
        """Decode from the last key frame that is not behind `pts`; containers may land later than they were asked."""
        for attempt in range(key, -2, -1):
            start = int(self._keys[attempt]) if attempt >= 0 else min(int(self._pts[0]), 0)
            self._container.seek(start, stream=self._stream, backward=True)
            self._decoder = self._container.decode(self._stream)
            first = next(self._decoder, None)
            if first is not None and first.pts <= pts:
                self._position = first.pts
                return first if first.pts == pts else self._forward(pts)
        raise TrainingError(f"video {self.path} cannot be decoded at {float(pts * self._stream.time_base):.3f} s")

    def _forward(self, pts: int) -> av.VideoFrame:
        for frame in self._decoder:
            self._position = frame.pts
            if frame.pts == pts:
                return frame
            if frame.pts > pts:
                break
        self._decoder = None
        raise TrainingError(
            f"video {self.path} cannot be decoded at {float(pts * self._stream.time_base):.3f} s: damaged or truncated"
        )

    def _check_length(self, count: int) -> None:
        if self._stream.frames and count < self._stream.frames:
            raise TrainingError(
                f"video {self.path} is truncated: its header announces {self._stream.frames} frames, got {count}"
            )

    def _broken(self, error: av.FFmpegError) -> TrainingError:
        return TrainingError(f"video {self.path} cannot be read: {error.strerror or error} (damaged or truncated)")


@lru_cache(maxsize=4)
def open_video(path: Path) -> VideoFile:
    """A video that stays open and indexed as long as it is among the last few of this process."""
    return VideoFile(path)

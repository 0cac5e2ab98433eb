"""Video files: chosen frames at exact times, with as little decoding as the key frames allow."""

import itertools
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import av
import numpy as np

from ....errors import TrainingError
from ..base import THUMBNAIL_PX
from ..pictures import stack_frames
from .display import rgb_of
from .riff import riff_is_whole

SUFFIXES = (".mp4", ".mkv", ".webm", ".mov", ".avi", ".m4v")
_FORMATS = ("mov", "matroska", "avi", "mpegts", "mpeg", "mpegvideo", "m4v", "h264", "hevc", "mjpeg", "flv", "asf",
            "ogg", "ivf", "gif", "wav", "mp3")  # fmt: skip
"FFmpeg's formats that contain their pictures. Others only list further files and addresses (concat, hls, dash, sdp)."
_OPTIONS = {"format_whitelist": ",".join(_FORMATS), "protocol_whitelist": "file"}
_TRIAL_FRAMES = 32
"Number of frames that are decoded to find out whether their times can be trusted."
_REORDERING = ("h264", "hevc", "mpeg4", "mpeg2video", "mpeg1video", "vc1", "wmv3", "msmpeg4v3")
_WITH_ALPHA = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
"Codecs whose transparency needs another decoder."


class VideoFile:
    """A video whose packets are indexed once.

    Most containers record when each frame is shown, and frames are then reached from the key frame before them. If
    they do not (AVI with B frames, streams without times), all frames are decoded in order, counted, and get the
    times at which the container releases them.

    Args:
        path: the file.

    Attributes:
        times: (N,) when each frame is shown [s], ascending.

    Raises:
        TrainingError: the file is missing, is not a video, or is truncated.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_file():
            raise TrainingError(f"video {path} does not exist")
        self._decoder: Iterator | None = None
        self._position = -1
        self._in_order = False
        try:
            self._open()
            packets = [packet for packet in self._container.demux(self._stream) if packet.size]
            shown = [packet for packet in packets if not packet.is_discard]
            if not shown:
                raise TrainingError(f"video {path} contains no frame: it is empty or truncated")
            self._check_length(len(packets))
            pts = [packet.pts for packet in shown]
            if None in pts or len(set(pts)) < len(pts) or not self._times_hold(pts):
                self._count_frames(shown)
                return
        except av.FFmpegError as error:
            raise self._broken(error) from error
        self._pts = np.array(sorted(pts), np.int64)
        self._keys = np.array(sorted(packet.pts for packet in shown if packet.is_keyframe) or [self._pts[0]], np.int64)
        self.times = self._pts * float(self._stream.time_base)

    def nearest(self, times: np.ndarray, tolerance: float) -> np.ndarray:
        """Numbers (N,) of the frames nearest to `times` (N,) [s].

        Args:
            times: the wanted times.
            tolerance: how far away a frame may be [s]; half the video's own frame interval is always allowed.

        Raises:
            TrainingError: there is no frame that near.
        """
        after = np.clip(np.searchsorted(self.times, times), 1, len(self.times) - 1) if len(self.times) > 1 else 0
        before = np.maximum(after - 1, 0)
        nearest = np.where(np.abs(self.times[before] - times) <= np.abs(self.times[after] - times), before, after)
        apart = float(np.median(np.diff(self.times))) if len(self.times) > 1 else 0.0
        far = np.abs(self.times[nearest] - times) > max(tolerance, 0.5 * apart) + 1e-6
        # between two frames the earlier one is shown, for however long
        between = far & (times >= self.times[0]) & (times <= self.times[-1])
        nearest, far = np.where(between, before, nearest), far & ~between
        if far.any():
            raise TrainingError(
                f"video {self.path} has no frame at {times[far][0]:.3f} s: it runs from {self.times[0]:.3f} to "
                f"{self.times[-1]:.3f} s (truncated, or it belongs to other data)"
            )
        return nearest

    def at_times(self, times: np.ndarray, tolerance: float) -> np.ndarray:
        """Frames (N, H, W, 3) uint8 nearest to `times` (N,) [s]; see `nearest`.

        Raises:
            TrainingError: no frame within `tolerance` [s], or the file is broken.
        """
        return self.at(self.nearest(times, tolerance).tolist())

    def at(self, indices: Sequence[int]) -> np.ndarray:
        """Frames (N, H, W, 3) uint8 by number, ascending; may repeat."""
        pictures: list[np.ndarray] = []
        last = None
        for index in indices:
            if index != last:
                picture = rgb_of(self._frame(index), self._stream.sample_aspect_ratio, f"video {self.path}")
            pictures.append(picture)
            last = index
        return stack_frames(pictures, f"video {self.path}")

    def thumbnails(self, indices: Sequence[int]) -> np.ndarray:
        """Small grey pictures (N, h, w) uint8 of frames by number, scaled by the decoder and not turned."""
        height = min(THUMBNAIL_PX, self._stream.height)
        width = max(1, round(self._stream.width * height / self._stream.height))
        return np.stack([self._frame(index).to_ndarray(width=width, height=height, format="gray") for index in indices])

    def _open(self) -> None:
        self._container = av.open(str(self.path), options=_OPTIONS, metadata_errors="replace")
        streams = [s for s in self._container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
        if not streams:
            raise TrainingError(f"video {self.path} contains no video stream")
        self._stream = streams[0]
        if self._stream.codec_context is None:
            raise TrainingError(f"video {self.path} has a codec that this FFmpeg does not know")
        # one thread: frames are few and far apart, and the work is already distributed over processes
        self._stream.codec_context.thread_count = 1
        self._codec = None
        name = _WITH_ALPHA.get(self._stream.codec_context.name)
        if name in av.codecs_available and self._stream.metadata.get("alpha_mode") == "1":
            self._codec = av.CodecContext.create(name, "r")
            self._codec.thread_count = 1

    def _decode(self) -> Iterator[av.VideoFrame]:
        if self._codec is None:
            yield from self._container.decode(self._stream)
            return
        self._codec.flush_buffers()
        for packet in self._container.demux(self._stream):
            yield from self._codec.decode(packet if packet.size else None)

    def _times_hold(self, pts: list[int]) -> bool:
        """Whether decoded frames have ascending times: a codec that reorders frames needs the container's times.

        If the packets' times show that frames are reordered, the container provides them.
        """
        context = self._stream.codec_context
        by_decoding = self._container.format.name == "avi" or not context.has_b_frames or pts == sorted(pts)
        if context.name not in _REORDERING or not by_decoding:
            return True
        self._container.seek(min(pts[0], 0), stream=self._stream, backward=True)
        found = [frame.pts for frame in itertools.islice(self._decode(), _TRIAL_FRAMES)]
        return None not in found and found == sorted(pts)[: len(found)]

    def _count_frames(self, packets: list[av.Packet]) -> None:
        """Index the frames by decoding all of them in order."""
        self._in_order = True
        self._rewind()
        decoded = [(frame.pts, frame.dts) for frame in self._decode()]
        if not decoded:
            raise TrainingError(f"video {self.path} contains no frame that can be decoded: it is damaged or truncated")
        rate = float(self._stream.average_rate or self._stream.base_rate or 0) or 25.0
        unit = float(self._stream.time_base)
        handed = sorted({packet.dts for packet in packets if packet.dts is not None})
        pts = [time for time, _ in decoded]
        if None not in pts and all(one < other for one, other in itertools.pairwise(pts)):
            self.times = np.array(pts) * unit
        elif len(handed) == len(decoded):
            # The decoder returns a frame only after later ones have arrived, and the last ones at the end, without a
            # packet. The container releases packets likewise: a frame's time is that of the packet with which it comes
            # out, and the last ones follow at the usual interval.
            late = sum(dts is None for _, dts in decoded)
            late = late if late < len(handed) else 0
            usual = int(np.median(np.diff(handed))) if len(handed) > 1 else 0
            released = [*handed[late:], *(handed[-1] + usual * number for number in range(1, late + 1))]
            self.times = (np.array(released) - released[0]) * unit
        else:
            self.times = np.arange(len(decoded)) / rate
        self._decoder = None

    def _frame(self, index: int) -> av.VideoFrame:
        try:
            if self._in_order:
                return self._counted(index)
            pts = int(self._pts[index])
            key = int(np.searchsorted(self._keys, pts, "right")) - 1
            if self._decoder is None or pts <= self._position or self._keys[max(key, 0)] > self._position:
                return self._seek(pts, key)
            return self._forward(pts)
        except av.FFmpegError as error:
            raise self._broken(error) from error

    def _counted(self, index: int) -> av.VideoFrame:
        """A frame by its number among all decoded ones."""
        if self._decoder is None or index <= self._position:
            self._rewind()
            self._decoder, self._position = self._decode(), -1
        for frame in self._decoder:
            self._position += 1
            if self._position == index:
                return frame
        self._decoder = None
        raise TrainingError(f"video {self.path} cannot be decoded at frame {index}: damaged or truncated")

    def _rewind(self) -> None:
        """Start again from the beginning: streams without times do not support seeking."""
        self._container.close()
        self._open()

    def _seek(self, pts: int, key: int) -> av.VideoFrame:
        """Decode from the last key frame that is not after `pts`; containers may seek to a later place than asked."""
        for attempt in range(key, -2, -1):
            start = int(self._keys[attempt]) if attempt >= 0 else min(int(self._pts[0]), 0)
            self._container.seek(start, stream=self._stream, backward=True)
            self._decoder = self._decode()
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
        """Check that no frames are missing; headers of MP4 also count what an edit list omits, AVI's empty packets.

        MP4 has an index that does not; an AVI file with fewer frames is truncated if its chunks extend past its end.
        """
        form, announced = self._container.format.name, self._stream.frames
        if "mp4" in form:
            entries = self._stream.index_entries
            announced = min(announced, sum(entry.size > 0 for entry in entries) if len(entries) else announced)
        if announced and count < announced and not (form == "avi" and riff_is_whole(self.path)):
            raise TrainingError(f"video {self.path} is truncated: its header announces {announced} frames, got {count}")

    def _broken(self, error: av.FFmpegError) -> TrainingError:
        reason = "damaged or truncated"
        if isinstance(error, av.ArgumentError):  # FFmpeg also raises this for formats that it was told not to open
            reason += ", or of a format that is no video in itself"
        return TrainingError(f"video {self.path} cannot be read: {error.strerror or error} ({reason})")


@lru_cache(maxsize=4)
def open_video(path: Path) -> VideoFile:
    """A video that stays open and indexed as long as it is among the last few of this process."""
    return VideoFile(path)

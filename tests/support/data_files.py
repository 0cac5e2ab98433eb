"""Small data sets for tests, written with the libraries that write the real ones."""

import json
import struct
from fractions import Fraction

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from training.data.sources.rlds.crc32c import masked_crc32c
from training.sections.config import Config

SIZE = (48, 64)
"Height and width of a frame [px]."
CAMERA = "observation.images.front"
INFO = {
    "codebase_version": "v2.1",
    "fps": 10,
    "chunks_size": 1000,
    "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
    "video_path": "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
    "features": {CAMERA: {"dtype": "image"}, "timestamp": {"dtype": "float32"}},
}


def corner(shade=0, size=SIZE):
    """Frame (h, w, 3) with a red corner at the top left and a green one at the top right, on a grey ground."""
    frame = np.full((*size, 3), shade, np.uint8)
    frame[: size[0] // 3, : size[1] // 3] = (255, 0, 0)
    frame[: size[0] // 3, -(size[1] // 3) :] = (0, 255, 0)
    return frame


def plain(shade, size=SIZE):
    return np.full((*size, 3), shade, np.uint8)


def write_video(file, frames, codec="libx264", pix_fmt="yuv420p", times=None, aspect=None, turned=None, **options):
    """Write frames (h, w, 3 or 4) uint8.

    Args:
        file: its suffix says the container.
        frames: the pictures.
        codec: FFmpeg's encoder.
        pix_fmt: of the stream.
        times: when each is shown [s]; None: ten per second.
        aspect: width of a pixel by its height.
        turned: angle of the display matrix [degrees].
        options: of the encoder.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(file), "w") as container:
        stream = container.add_stream(codec, 10)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pix_fmt
        stream.options = {"crf": "5", **options} if codec == "libx264" else options
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        if turned is not None:
            stream.set_display_rotation(turned)
        stream.codec_context.time_base = Fraction(1, 1000)
        for number, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(frame, "rgba" if frame.shape[2] == 4 else "rgb24")
            picture.time_base = Fraction(1, 1000)
            picture.pts = round(1000 * (number / 10 if times is None else times[number]))
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return file


def write_frames(folder, frames, name="{:04d}.png"):
    folder.mkdir(parents=True, exist_ok=True)
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / name.format(number))
    return folder


def write_lerobot(
    folder, episodes, info=INFO, tasks=({"task_index": 0, "task": "push"},), lengths=(12, 12), column=None
):
    """A LeRobot v2.1 data set with pictures in its tables.

    Args:
        folder: where.
        episodes: lines of episodes.jsonl.
        info: info.json.
        tasks: lines of tasks.jsonl.
        lengths: rows of each table.
        column: (episode, step) -> value of the picture's cell; None: PNG bytes of a grey of its own.
    """
    (folder / "meta").mkdir(parents=True)
    (folder / "meta" / "info.json").write_text(json.dumps(info))
    for name, rows in (("episodes", episodes), ("tasks", tasks)):
        (folder / "meta" / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    column = column or (lambda episode, step: {"bytes": png(plain(20 + 40 * episode + step)), "path": None})
    for episode, length in enumerate(lengths):
        steps = range(length)
        file = folder / "data" / "chunk-000" / f"episode_{episode:06d}.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        table = {
            "timestamp": pa.array([step / 10 for step in steps], pa.float32()),
            "episode_index": [episode] * length,
            "task_index": [0] * length,
            "observation.state": [[0.01 * step, 0.0, 0.0] for step in steps],
            CAMERA: [column(episode, step) for step in steps],
        }
        pq.write_table(pa.table(table), file)
    return folder


def png(frame):
    import io

    stream = io.BytesIO()
    Image.fromarray(frame).save(stream, "PNG")
    return stream.getvalue()


def write_shard(file, episodes):
    """A TFRecord file of tf.train.Example messages: a list of {feature: list of bytes or list of integers}."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("wb") as stream:
        for features in episodes:
            data = _field(1, b"".join(_field(1, _feature(name, values)) for name, values in features.items()))
            head = struct.pack("<Q", len(data))
            stream.write(head + struct.pack("<I", masked_crc32c(head)) + data + struct.pack("<I", masked_crc32c(data)))
    return file


def _feature(name, values):
    if isinstance(values[0], bytes):
        held = _field(1, b"".join(_field(1, value) for value in values))
    else:
        held = _field(3, _field(1, b"".join(map(_varint, values))))
    return _field(1, name.encode()) + _field(2, held)


def _field(number, data):
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint(value):
    parts = bytearray()
    while True:
        parts.append(value & 0x7F | (0x80 if value > 0x7F else 0))
        value >>= 7
        if not value:
            return bytes(parts)


def config_of(folder, source, layout=(3, 3), modes=("text",), **settings):
    """Configuration of `prepare` with cells of the frames' size."""
    spec = {"rows": layout[0], "cols": layout[1], "cell_height": SIZE[0], "cell_width": SIZE[1], "modes": list(modes)}
    section = {"source": source, "out": folder / "pairs", "processes": 1, "validation_episodes": 0, **settings}
    return Config.model_validate({"spec": spec, "prepare": section})


def lines_of(folder):
    return [json.loads(line) for line in (folder / "pairs" / "pairs.jsonl").read_text().split("\n") if line]

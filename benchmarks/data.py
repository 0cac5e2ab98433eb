"""From videos to the encoders' inputs, compared with plain decoding of the same files.

`prepare` is everything that the command does with a folder of videos (index, decode, choose frames, fit, write grids,
checksums, contact sheet), and everything that `cache` does before a picture goes into the autoencoder (check, read,
compare sizes). `pyav` opens the same files with PyAV and turns each frame into an array; `pyav_decode_only` does not
make arrays. All run in one process, and CPU time is measured. Ratios are throughputs: 1 is as fast as decoding alone.
Key frames are 250 frames apart, x264's default, which is the hard case since little can be skipped; LeRobot's own files
have one every second frame.
"""

from __future__ import annotations

import contextlib
import io
import shutil
import tempfile
import time
from pathlib import Path

import av
import numpy as np

from .harness import Benchmark, interleave

REPEATS = 5
EPISODES, FRAMES, SIZE, FPS = 6, 300, (480, 640), 30


def run(repeats: int | None = None) -> Benchmark:
    """Measure.

    Args:
        repeats: Timed rounds.
    """
    with tempfile.TemporaryDirectory(prefix="visual-planner-bench-") as name:
        folder = Path(name)
        for gop in (250, 2):
            for number in range(EPISODES):
                write_video(folder / f"gop{gop}" / f"{number}.mp4", number, gop)
            (folder / f"gop{gop}" / "instructions.txt").write_text("push the cube\n")
        hard, easy = folder / "gop250", folder / "gop2"
        raw = interleave(
            {
                "prepare": lambda: prepare_and_read(hard, folder / "pairs"),
                "pyav": lambda: decode(hard, arrays=True),
                "pyav_decode_only": lambda: decode(hard, arrays=False),
                "prepare_lerobot_gop": lambda: prepare_and_read(easy, folder / "pairs"),
                "pyav_lerobot_gop": lambda: decode(easy, arrays=True),
            },
            repeats or REPEATS,
            clock=time.process_time,  # one process, one thread: other programs on the machine do not count
        )
    return Benchmark(
        "data",
        "s",
        raw,
        {
            "prepare/pyav": ("pyav", "prepare"),
            "prepare/pyav_decode_only": ("pyav_decode_only", "prepare"),
            "prepare/pyav_lerobot_gop": ("pyav_lerobot_gop", "prepare_lerobot_gop"),
        },
        {"data": f"{EPISODES} videos of {FRAMES} frames, {SIZE[1]}x{SIZE[0]}, H.264; cells of 320x240; one process"},
    )


def prepare_and_read(source: Path, out: Path) -> None:
    """Prepare, and read like `cache`; the encoders' own time is not included."""
    from training.cache.check import quick_check
    from training.cache.write import read_grid
    from training.data.pairs_folder import read_pairs
    from training.data.prepare import prepare
    from training.sections.config import Config

    shutil.rmtree(out, ignore_errors=True)
    base = Path(__file__).resolve().parents[1] / "models" / "tiny_planner"
    config = Config.model_validate(
        {
            "prepare": {"source": source, "out": out, "processes": 1, "validation_episodes": 1},
            "cache": {"data": out, "base": base, "out": out / "cache"},
        }
    )
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        prepare(config)
    spec, pairs = read_pairs(out)
    quick_check(config.cache, spec, pairs)
    for pair in pairs:
        read_grid(out / pair["source"], spec)
        read_grid(out / pair["target"], spec)


def decode(source: Path, arrays: bool) -> None:
    """Decode every frame of every file with plain PyAV."""
    for file in sorted(source.glob("*.mp4")):
        with av.open(str(file)) as container:
            count = 0
            for frame in container.decode(video=0):
                if arrays:
                    frame.to_ndarray(format="rgb24")
                count += 1
        if count != FRAMES:
            raise ValueError(f"{file} gave {count} frames")


def write_video(file: Path, seed: int, gop: int) -> None:
    """Write a video of a textured square that moves over a textured background with camera noise."""
    rng = np.random.default_rng(seed)
    ground = rng.integers(40, 200, (SIZE[0] // 16, SIZE[1] // 16, 3), dtype=np.uint8).repeat(16, 0).repeat(16, 1)
    noise = rng.integers(0, 12, (4, *SIZE, 3), dtype=np.uint8)
    file.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(file), "w") as container:
        stream = container.add_stream("libx264", FPS)
        stream.height, stream.width, stream.pix_fmt = *SIZE, "yuv420p"
        stream.options = {"preset": "veryfast", "crf": "23", "g": str(gop)}
        for number in range(FRAMES):
            frame = ground + noise[number % 4]
            left = 20 + number * 500 // FRAMES
            frame[200:280, left : left + 80] = (230, 60, 20)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        container.mux(stream.encode())

"""Parsers of data sets, pictures and videos."""

import io
import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image

from launcher.demo_inputs import read_picture as read_first_frame
from launcher.demo_inputs import read_trajectory
from support.small_world import write_episodes
from training.data.episodes import EpisodeSet
from training.data.overlays import open_overlay
from training.data.sources import open_source
from training.data.sources.pictures import read_picture

from .core_targets import CVAT, V1, XML_WORDS
from .law import Target
from .mutate import bytes_change, of_bytes, of_json, of_lines, of_png, of_text

DATA = Path(__file__).resolve().parents[1] / "training" / "data"
NAMES = ["000000", "000001"]


def within(name: str, make: Callable[[Path], None], read: Callable[[Path], object]) -> Callable[[bytes, Path], object]:
    """A reader of a folder that is made once, and of which one file is the input."""

    def run(data: bytes, folder: Path) -> object:
        home = folder / "home"
        if not home.exists():
            make(home)
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_bytes(data)
        return read(home)

    return run


def _encoded(kind: str, size: tuple[int, int] = (18, 9), mode: str = "RGB", **settings: object) -> bytes:
    pixels = np.random.default_rng(1).integers(0, 255, (size[1], size[0], 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(stream, kind, **settings)
    return stream.getvalue()


PNGS = [_encoded("PNG"), _encoded("PNG", mode="P"), _encoded("PNG", mode="LA"), _encoded("PNG", mode="L")]
OTHERS = [
    _encoded("JPEG"),
    _encoded("JPEG", progressive=True),
    _encoded("WEBP"),
    _encoded("WEBP", lossless=True),
    _encoded("BMP"),
]
POSTSCRIPT = [
    b"%!PS\n{ } loop\n",
    b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n{ } loop\n",
    b"\xc5\xd0\xd3\xc6" + bytes(40),
]


def _episodes(home: Path) -> None:
    write_episodes(home, count=2)


def _open_episodes(home: Path) -> None:
    source = open_source(home, "simulated")
    assert all((home / "frames" / f"{entry.id}.png").parent == home / "frames" for entry in source.entries)
    overlay = open_overlay("auto", source, None, "", ("trajectory",)) if source.entries[0].has_path else None
    for entry in source.entries[:1]:
        frames = source.frames(entry, [0])
        if overlay is not None:
            overlay(source, entry, np.array([0, entry.length - 1]), frames.shape[1:3])


def _open_set(home: Path) -> None:
    EpisodeSet.open(home).episodes[0].load_frames()


def _episode_lines() -> list[dict]:
    path = [[7 + t, 13.0, t / 3] for t in range(4)]
    record = {"seed": 1, "task": "push", "instruction": "push it", "caption": "a", "path_px": path, "success": True}
    return [{"id": name, **record} for name in NAMES]


def _frames(home: Path) -> None:
    for name in NAMES:
        (home / name).mkdir(parents=True)
        for number in range(3):
            (home / name / f"{number}.png").write_bytes(PNGS[0])


def _open_frames(home: Path) -> None:
    source = open_source(home, "frames")
    source.frames(source.entries[0], [0, 2])


def _grids(home: Path) -> None:
    home.mkdir(parents=True)
    for name in ("a.png", "b.png"):
        (home / name).write_bytes(PNGS[0])


def _open_grids(home: Path) -> None:
    source = open_source(home / "grids.jsonl", "grids")
    source.frames(source.entries[0], [0, 1])


def _lerobot(version: str) -> Callable[[Path], None]:
    return lambda home: shutil.copytree(DATA / "lerobot" / version, home) and None


def _open_lerobot(home: Path) -> None:
    source = open_source(home, "lerobot")
    entry = source.entries[0]
    if entry.length < 1000:
        source.frames(entry, [0])
        source.positions(entry, "")


def _info(version: str) -> dict:
    return json.loads((DATA / "lerobot" / version / "meta" / "info.json").read_text())


def _lines(name: str) -> list[dict]:
    return [json.loads(line) for line in (DATA / "lerobot" / "v21" / "meta" / name).read_text().split("\n") if line]


def _rlds(home: Path) -> None:
    shutil.copytree(DATA / "rlds" / "jaco_play", home)


def _open_rlds(home: Path) -> None:
    source = open_source(home, "rlds")
    source.frames(source.entries[0], [0])


SHARD = "jaco_play-train.tfrecord-00000-of-00002"


def _records(random: Random) -> bytes:
    """A shard whose checksums are right although a record, or its length, is broken."""
    try:
        from training.data.sources.rlds.crc32c import masked_crc32c
    except ImportError:
        from training.data.sources.crc32c import masked_crc32c
    data = (DATA / "rlds" / "jaco_play" / SHARD).read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    body = bytes_change(random, data[12 : 12 + size]) if random.random() < 0.8 else data[12 : 12 + size]
    sizes = (2**63, 2**40, 0, 1, 2**64 - 1, len(body) + 1, max(len(body) - 1, 0))
    head = struct.pack("<Q", random.choice(sizes) if random.random() < 0.3 else len(body))
    parts = (head, struct.pack("<I", masked_crc32c(head)), body, struct.pack("<I", masked_crc32c(body)))
    return b"".join(parts) if random.random() < 0.9 else bytes_change(random, data)


_CAMERA = {"intrinsics": [[50, 0, 16], [0, 50, 16], [0, 0, 1]], "width": 64, "height": 48,
           "extrinsics": [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 2]]}  # fmt: skip
_CAMERAS = {"cameras": {"observation.images.front": _CAMERA}, "episodes": {"000000": _CAMERA}, "offset_m": [0, 0, 0.1]}


def _overlay(kind: str, name: str) -> Callable[[Path], None]:
    """Reads the overlay's file for the first episode of a data set that lies beside it."""

    def read(home: Path) -> None:
        version = home.parent / "v21"
        if not version.exists():
            shutil.copytree(DATA / "lerobot" / "v21", version)
        source = open_source(version, "lerobot")
        overlay = open_overlay(kind, source, home / name, "", ("trajectory",))
        entry = source.entries[0]
        if kind == "tracked":
            overlay._mask(entry, (48, 64))  # the frames of this data set are of one grey: nothing to follow
            return
        overlay(source, entry, np.array([0, 4, entry.length - 1]), (48, 64))

    return read


def _nothing(home: Path) -> None:
    home.mkdir(parents=True)


def _video(data: bytes, folder: Path) -> None:
    home = folder / "videos"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir()
    (home / f"{abs(hash(data))}.mp4").write_bytes(data)
    source = open_source(home, "videos")
    if source.entries[0].length < 500:
        source.frames(source.entries[0], [0, source.entries[0].length - 1])


def _encoded_picture(data: bytes, folder: Path) -> None:
    assert read_picture(data, "picture a").dtype == np.uint8


def _first_frame(data: bytes, folder: Path) -> None:
    (folder / "a.png").write_bytes(data)
    read_first_frame(folder / "a.png")


def _demo_trajectory(data: bytes, folder: Path) -> None:
    (folder / "a.json").write_bytes(data)
    read_trajectory(folder / "a.json", (48, 64))


CSV = [
    b'file,instruction\n000000,push it\n000001,"pull, it"\n',
    b"\xef\xbb\xbfname,task\r\n000001,x\r\n",
]
CSV_WORDS = (b",", b'"', b"\r", b"\n", b"x" * 140000, b"000000", b"\t", b";", b"file", b"\xff\xfe", b"\x85")
ANNOTATIONS = [text.replace(b"a.png", b"000000.png").replace(b"<task>", b"<task><name>000000</name>") for text in CVAT]
VIDEOS = sorted((DATA / "lerobot").rglob("*.mp4"))

TARGETS = [
    Target("episodes", *of_lines(_episode_lines()), within("episodes.jsonl", _episodes, _open_episodes)),
    Target("episode strips", *of_png(PNGS), within("frames/000000.png", _episodes, _open_set)),
    Target(
        "episode data sets",
        *of_json([{"format": "visual_planner.episodes", "version": 1, "frames": 9, "height": 32, "width": 32}]),
        within("dataset.json", _episodes, _open_episodes),
    ),
    Target("png pictures", *of_png(PNGS), _encoded_picture),
    Target("other pictures", OTHERS, of_bytes([*OTHERS, *POSTSCRIPT])[1], _encoded_picture),
    Target("first frames", *of_png(PNGS), _first_frame),
    Target("demo trajectories", *of_json([{**V1, "paths": V1["paths"][:1]}]), _demo_trajectory),
    Target("videos", *of_bytes([file.read_bytes() for file in VIDEOS]), _video),
    Target("instructions csv", *of_text(CSV, CSV_WORDS), within("instructions.csv", _frames, _open_frames)),
    Target(
        "instructions txt",
        *of_text([b"000000\tpush\n000001\tpull\n"], CSV_WORDS),
        within("instructions.txt", _frames, _open_frames),
    ),
    Target(
        "instructions jsonl",
        *of_lines([{"file": name, "instruction": "push"} for name in NAMES]),
        within("instructions.jsonl", _frames, _open_frames),
    ),
    Target(
        "grids",
        *of_lines([{"source": "a.png", "target": "b.png", "text": "x", "id": "a", "episode": "e", "mode": "text"}]),
        within("grids.jsonl", _grids, _open_grids),
    ),
    Target("lerobot v2 info", *of_json([_info("v21")]), within("meta/info.json", _lerobot("v21"), _open_lerobot)),
    Target(
        "lerobot v3 info",
        *of_json([_info("v30_image")]),
        within("meta/info.json", _lerobot("v30_image"), _open_lerobot),
    ),
    Target(
        "lerobot episodes",
        *of_lines(_lines("episodes.jsonl")),
        within("meta/episodes.jsonl", _lerobot("v21"), _open_lerobot),
    ),
    Target(
        "lerobot tasks", *of_lines(_lines("tasks.jsonl")), within("meta/tasks.jsonl", _lerobot("v21"), _open_lerobot)
    ),
    Target(
        "lerobot tables",
        *of_bytes([(DATA / "lerobot" / "v30_image" / "meta" / "tasks.parquet").read_bytes()]),
        within("meta/tasks.parquet", _lerobot("v30_image"), _open_lerobot),
    ),
    Target(
        "tfrecords", [(DATA / "rlds" / "jaco_play" / SHARD).read_bytes()], _records, within(SHARD, _rlds, _open_rlds)
    ),
    Target(
        "rlds features",
        *of_json([json.loads((DATA / "rlds/jaco_play/features.json").read_text())]),
        within("features.json", _rlds, _open_rlds),
    ),
    Target("camera files", *of_json([_CAMERAS]), within("cameras.json", _nothing, _overlay("cameras", "cameras.json"))),
    Target(
        "clicks",
        *of_json([{"000000": [9, 9], "*": [5, 5]}]),
        within("clicks.json", _nothing, _overlay("tracked", "clicks.json")),
    ),
    Target(
        "drawn paths",
        *of_lines([{"episode": "000000", "trajectory": V1}, {"episode": "000001", "trajectory": [[1, 2], [3, 4]]}]),
        within("drawn.jsonl", _nothing, _overlay("drawn", "drawn.jsonl")),
    ),
    Target(
        "cvat annotations", *of_text(ANNOTATIONS, XML_WORDS), within("cvat.xml", _nothing, _overlay("cvat", "cvat.xml"))
    ),
]

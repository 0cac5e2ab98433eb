"""Parsers of the method, the simulation, the configuration and the evaluation."""

import json
from dataclasses import asdict
from pathlib import Path
from random import Random

import cv2
import numpy as np

from simulation.camera import FRONT, Camera
from simulation.plans import read_plans
from training.evaluation.report import read_metrics
from training.loop.runlog import read_log
from training.sections.config import load_config
from visual_planner.adapters.blocks import parse_blocks
from visual_planner.execution.readout import READOUT_KEY, ReadoutSpec
from visual_planner.grid.frame import fit_frame
from visual_planner.grid.layout import GridLayout
from visual_planner.json_text import json_value
from visual_planner.planner.spec import PlannerSpec
from visual_planner.trajectory.interchange import read_cvat, read_text, write_points_store
from visual_planner.trajectory.overlay import draw_overlay
from visual_planner.trajectory.parse import parse_trajectory
from visual_planner.trajectory.stroke import STROKE_STARTS, read_stroke

from .law import Target
from .mutate import of_json, of_lines, of_text

ROOT = Path(__file__).resolve().parents[2]
V1 = {
    "version": 1, "width": 64, "height": 48, "paths": [
        {"name": "gripper", "points": [{"x": 3, "y": 4, "t": 0}, {"x": 30, "y": 20}, {"x": 50, "y": 40, "t": 0.9}],
         "interpolation": "spline"},
        {"name": "path 2", "points": [{"x": -9, "y": 4}, {"x": 90, "y": 20}]}]}  # fmt: skip
PEERS = [
    [{"x": 1, "y": 2}, {"x": 30, "y": 20}, {"x": 60, "y": 40}],
    [[[1, 2], [30, 20]], [[-100, -100], [5, 5, 0.5], [6, 6]]],
    {"tracks": [[[1, 2], [3, 4]]], "circle_trajectories": [[[1, 2], [3, 4]]]},
    [{"points": [{"x": 1, "y": 2}, {"x": 9, "y": 9}], "name": "a", "color": "#fff", "isSinglePoint": False}],
    ["[[1, 2], [3, 4]]", "[[5, 6], [7, 8]]"],
]
CVAT = (
    b'<?xml version="1.0" encoding="utf-8"?><annotations><meta><task><original_size><width>64</width>'
    b"<height>48</height></original_size></task></meta>"
    b'<track id="0" label="gripper"><polyline frame="0" outside="0" points="1,2;30,20"/>'
    b'<points frame="3" points="3.5,4"/></track></annotations>',
    b'<annotations><image id="0" name="a.png" width="64" height="48"><polyline label="gripper" points="1.5,2;3,4;5,6"/>'
    b"</image></annotations>",
)
XML_WORDS = (
    b"<!DOCTYPE a [<!ENTITY b 'c'>]>", b"&b;", b"&#x0;", b"<", b">", b"</", b'"', b"<![CDATA[",
    b"\n" * 50000, b"<a>" * 5000, b'encoding="x"', b'frame=""', b'width="x"', b"1e400",
    b"nan", b"\xff\xfe", b"<original_size><width>9</width>",
)  # fmt: skip
YAML_WORDS = (
    b"&a [1,2]", b"*a", b"<<: ", b"- ", b": ", b"? ", b"!!python/object:os.x ", b"2020-99-99", b".inf", b".nan",
    b"0x", b"[" * 3000, b"{", b"true", b"|\n", b">\n", b"\t", b"'", b'"\\x00"', b"%YAML 9",
    b"---\n", b"1:30:99", b"9" * 5000, b"\xc2\x85", b"~",
)  # fmt: skip


def _use(trajectory) -> None:
    """What nodes and training do with a trajectory."""
    assert parse_trajectory(trajectory.to_json()) == trajectory
    write_points_store(trajectory)
    for rule in ("cut", "clamp"):
        try:
            clipped = trajectory.clipped(rule)
        except ValueError:
            continue
        places = json.loads(clipped.to_track_json(9))
        assert "NaN" not in json.dumps(places) and np.isfinite(clipped.resample(9)).all()
        cell = clipped.fitted(48, 64)
        if sum(len(path.points) for path in cell.paths) < 500:
            draw_overlay(np.zeros((48, 64, 3), np.uint8), cell, "gradient")
    trajectory.fitted(32, 48, "crop").scaled(640, 480)


def _trajectory(data: bytes, folder: Path) -> None:
    _use(parse_trajectory(data, 64, 48))


def _import(data: bytes, folder: Path) -> None:
    text = data.decode("utf-8", "surrogateescape")
    _use(read_text(text, 64, 48, normalised=text.count("0.") > 3))


def _cvat(data: bytes, folder: Path) -> None:
    _use(read_cvat(data.decode("utf-8", "surrogateescape")))


def _masks(random: Random) -> bytes:
    return random.randbytes(12)


def _stroke(data: bytes, folder: Path) -> None:
    random = Random(data)
    if data in GOOD:
        read_stroke(cv2.line(np.zeros((48, 64), np.uint8), (5, 5), (60, 40), 1, 3))
        return
    height, width = (random.choice((1, 2, 7, 64, 300, 2000)) for _ in range(2))
    mask = np.zeros((height, width), np.uint8)
    generator = np.random.default_rng(list(data))
    kind = random.randrange(4)
    if kind == 0:
        mask[:] = generator.random(mask.shape) < random.random()
    elif kind == 1:
        mask[:] = 1
    else:
        points = generator.integers(-20, max(height, width) + 20, (random.randrange(1, 30), 2)).astype(np.int32)
        cv2.polylines(mask, [points], kind == 2, 1, random.choice((1, 3, 20, 200)))
    read_stroke(mask, random.choice(STROKE_STARTS))


def _spec(data: bytes, folder: Path) -> None:
    spec = PlannerSpec.from_json(data.decode("utf-8", "surrogateescape"))
    spec.mu(), spec.prompt(spec.modes[0], "push the cube"), spec.grid_size, spec.layout.frame_indices
    assert PlannerSpec.from_json(spec.to_metadata()["visual_planner.spec"]) == spec


def _readout(data: bytes, folder: Path) -> None:
    ReadoutSpec.from_metadata({READOUT_KEY: data.decode("utf-8", "surrogateescape")})


def _layout(data: bytes, folder: Path) -> None:
    layout = GridLayout.parse(data.decode("utf-8", "surrogateescape"))
    assert GridLayout.parse(str(layout)) == layout and len(layout.frame_indices) == layout.frames


def _blocks(data: bytes, folder: Path) -> None:
    read = parse_blocks(data.decode("utf-8", "surrogateescape"), 2, 3)
    again = parse_blocks(read.text(), 2, 3)
    values = (float(f"{value:g}") for value in (read.other, *read.double, *read.single))
    assert (again.other, *again.double, *again.single) == tuple(values)


def _file(folder: Path, name: str, data: bytes) -> Path:
    (folder / name).write_bytes(data)
    return folder / name


def _crop(data: bytes, folder: Path) -> None:
    random = Random(data)
    size = (random.choice((1, 2, 30, 500, 16384)), random.choice((1, 2, 30, 500)))
    picture = np.zeros((*size[:: random.choice((1, -1))], random.choice((1, 3, 4))), np.uint8)
    cell = random.choice((1, 16, 240)), random.choice((1, 16, 320))
    assert fit_frame(picture, *cell, random.choice(("crop", "letterbox", "stretch"))).shape == (1, *cell, 3)


def _configurations() -> list[bytes]:
    files = sorted((ROOT / "training" / "configs").glob("*.yaml"))
    return [file.read_bytes() for file in files]


def _metrics() -> dict:
    figure, rate = (
        {"value": 1.0, "interval": [0.5, 1.5]},
        {"successes": 3, "n": 4, "rate": 0.75, "interval": [0.3, 0.9]},
    )
    row = {"psnr_db": figure, "ssim": figure, "motion_ratio": figure, "moved_most": rate, "checks_passed": rate}
    return {
        "protocol": ["a"],
        "scenes": 4,
        "source": "a",
        "lora": "b",
        "seed": 0,
        "steps": 2,
        "static": row,
        "both": row,
    }


_PLAN = {
    "seed": 3, "task": "reach", "gripper": [0, 0.5, 1], "camera": FRONT.to_json(), "id": "a",
    "end_effector_m": [[0.4, 0, 0.1], [0.4, 0.1, 0.1], [0.4, 0.1, 0.2]],
}  # fmt: skip
_SPECS = [asdict(PlannerSpec()), asdict(PlannerSpec(rows=2, condition_tokens="first_cell", position_ids="fold"))]
_READOUT = json.loads(ReadoutSpec().to_metadata()[READOUT_KEY])
_VIEWED = {**_READOUT, "view": {"eye_m": [1, 0, 1], "rays": [[1, 0, 0], [0, 1, 0], [0, 0, 1]]}}
_LOG = [{"step": step, "loss": 1.0 / step, "validation_loss": 0.5} for step in range(1, 5)]
GOOD = [b"good"]
IMPORTED = [json.dumps(part).encode() for part in [*PEERS, V1, [[0.1, 0.2], [0.3, 0.4]]]]
BLOCKS = [b"all: 0; double 0-1: 0.5; single 0, 2: 1", b"MINE:1,1,0.5,0,0,1", b"%default=1,double1-2=0.5,base=0"]
LAYOUTS = [b"3x3", b"3x3 serpentine", b"2x4 raster", b"1 X 9 : shuffled"]

TARGETS = [
    Target("trajectory json", *of_json([V1]), _trajectory),
    Target("trajectories of peers", *of_json(PEERS), _trajectory),
    Target("imported text", *of_text(IMPORTED, (b"'", b"[", b"NaN")), _import),
    Target("cvat xml", *of_text(CVAT, XML_WORDS), _cvat),
    Target("strokes", GOOD, _masks, _stroke),
    Target("crops", GOOD, _masks, _crop),
    Target("planner records", *of_json(_SPECS), _spec),
    Target("read-out records", *of_json([_READOUT, _VIEWED]), _readout),
    Target("layouts", *of_text(LAYOUTS, (b"x", b"9" * 5000, b"\xc3\x97", b" ", b"raster")), _layout),
    Target("strengths by block", *of_text(BLOCKS, (b";", b":", b"%", b"-", b"9" * 5000, b"nan", b"all")), _blocks),
    Target("json", *of_json([V1, *PEERS]), lambda data, folder: json_value(data, "thing")),
    Target("plans", *of_json([_PLAN, [_PLAN]]), lambda data, folder: read_plans(_file(folder, "a.json", data))),
    Target("plan lines", *of_lines([_PLAN, _PLAN]), lambda data, folder: read_plans(_file(folder, "a.jsonl", data))),
    Target("cameras", *of_json([FRONT.to_json()]), lambda data, folder: Camera.from_json(json_value(data, "camera"))),
    Target(
        "configurations",
        *of_text(_configurations(), YAML_WORDS),
        lambda data, folder: load_config(_file(folder, "config.yaml", data), ["spec.rows=3"]),
    ),
    Target("metrics", *of_json([_metrics()]), lambda data, folder: read_metrics(_file(folder, "metrics.json", data))),
    Target(
        "logs",
        *of_lines(_LOG),
        lambda data, folder: read_log(_file(folder, "log.jsonl", data).parent),
    ),
]

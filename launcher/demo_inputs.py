"""The demo's inputs, read and checked before any server is started."""

from __future__ import annotations

import argparse
import io
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from runtime.writing import writing
from visual_planner.errors import PlannerError
from visual_planner.pictures import picture_size
from visual_planner.pictures import read_picture as decode_picture
from visual_planner.planner.prompts import MODES, parts_of
from visual_planner.text import decode_text
from visual_planner.trajectory.parse import parse_trajectory

from .errors import LauncherError
from .paths import EXAMPLES, OUTPUT

MAX_SIDE_PX = 8192


@dataclass(frozen=True)
class DemoRequest:
    """One plan to make.

    Attributes:
        mode: One of `prompts.MODES`.
        instruction: The task; None for the workflow's own.
        first_frame: (H, W, 3) uint8, the picture of the scene.
        goal: (H, W, 3) uint8, the picture of the scene at the end; None in modes without one.
        trajectory: JSON text of the trajectory in pixels of the first frame; None in modes without a path.
        seed: Seed of the noise.
        steps: Denoising steps; None for the workflow's own number.
        out: Folder for the results.
    """

    mode: str
    instruction: str | None
    first_frame: np.ndarray
    goal: np.ndarray | None
    trajectory: str | None
    seed: int
    steps: int | None
    out: Path


def png_of(picture: np.ndarray) -> bytes:
    """An (H, W, 3) uint8 picture as an 8-bit RGB PNG."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()


def read_request(options: argparse.Namespace) -> DemoRequest:
    """Check the demo's options.

    Raises:
        LauncherError: One of them cannot be used; the message names it.
    """
    mode = options.mode or _implied_mode(options)
    parts = parts_of(mode)
    if options.instruction is not None and not options.instruction.strip() and parts.text:
        raise LauncherError(f"--instruction must say what the robot should do in mode {mode}, got an empty text")
    frame_file = options.first_frame or EXAMPLES / "first_frame.png"
    first_frame = read_picture(frame_file)
    trajectory = None
    if parts.path:
        if options.trajectory is None and options.first_frame is not None:
            raise LauncherError(f"mode {mode} with --first-frame needs --trajectory: a path in pixels of that picture")
        trajectory = read_trajectory(options.trajectory or EXAMPLES / "trajectory.json", first_frame.shape[:2])
    goal = _read_goal(options, mode)
    out = (options.out or OUTPUT / f"demo_{mode}").absolute()
    check_writable(out)
    return DemoRequest(mode, options.instruction, first_frame, goal, trajectory, options.seed, options.steps, out)


def _implied_mode(options: argparse.Namespace) -> str:
    if options.trajectory is not None:
        usual = "trajectory" if options.instruction is None else "both"
    else:
        usual = "text" if options.instruction is not None or options.goal is None else ""
    return "_".join(part for part in (usual, "goal" if options.goal is not None else "") if part)


def _read_goal(options: argparse.Namespace, mode: str) -> np.ndarray | None:
    if not parts_of(mode).goal:
        if options.goal is not None:
            known = ", ".join(name for name in MODES if parts_of(name).goal)
            raise LauncherError(f"--goal must come with a mode that takes a goal picture ({known}), got mode {mode}")
        return None
    if options.goal is None and options.first_frame is not None:
        raise LauncherError(f"mode {mode} with --first-frame needs --goal: a picture of that scene at the end")
    return read_picture(options.goal or EXAMPLES / "goal.png", "goal picture")


def read_picture(file: Path, kind: str = "first frame") -> np.ndarray:
    """Read a picture of any channel count and depth as (H, W, 3) uint8; transparency is laid over black.

    Args:
        file: The picture.
        kind: What it is, for messages.

    Raises:
        LauncherError: It is missing, is not a picture, or has an impossible size.
    """
    what = f"{kind} {file}"
    try:
        with file.open("rb") as stream:
            height, width = picture_size(stream, what, LauncherError)
            if max(height, width) > MAX_SIDE_PX:
                raise LauncherError(f"{what} must have sides of at most {MAX_SIDE_PX} px, got {width}x{height}")
            stream.seek(0)
            return decode_picture(stream, what, LauncherError)
    except FileNotFoundError:
        raise LauncherError(f"{what} does not exist") from None
    except OSError as error:  # a folder
        raise LauncherError(f"{what} cannot be read: {error.strerror or error}") from error


def read_trajectory(file: Path, size: tuple[int, int]) -> str:
    """Read a trajectory and return it as JSON v1.

    Args:
        file: JSON file, in any form that the planner reads.
        size: (height, width) of the first frame, for forms without a size [px].

    Raises:
        LauncherError: It is missing, malformed, or leaves the frame.
    """
    height, width = size
    try:
        text = decode_text(file.read_bytes(), f"trajectory {file}", LauncherError)
    except FileNotFoundError:
        raise LauncherError(f"trajectory {file} does not exist") from None
    except OSError as error:
        raise LauncherError(f"trajectory {file} cannot be read: {error.strerror or error}") from error
    try:
        return parse_trajectory(text, width=width, height=height).clipped("error").to_json()
    except PlannerError as error:
        raise LauncherError(f"trajectory {file}: {error}") from error


def check_writable(out: Path) -> None:
    """Make sure, before minutes of work, that results can be written.

    Raises:
        LauncherError: The path is a file, or cannot be written.
    """
    if out.exists() and not out.is_dir():
        raise LauncherError(f"--out must be a folder, {out} is a file")
    nearest = next(folder for folder in (out, *out.parents) if folder.is_dir())
    with writing(out, LauncherError), tempfile.NamedTemporaryFile(dir=nearest) as probe:
        probe.write(bytes(4096))

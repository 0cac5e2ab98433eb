"""Plans to look at: one strip per scene, planned frames above executed ones, and one sheet of many strips."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from worlds.errors import UnreachableError
from worlds.protocol import World

from ...files import file_name, replacing
from .requests import Asked
from .trial import Judged

SHEET = "sheet.png"
ON_SHEET = 33
"Number of strips on a sheet."
_LEAST_SIDE = 96
"Smaller frames are enlarged to this [px]."
_TEXT, _GAP = 14, 6
"Font height and gap [px]."
_COLOURS = {True: "#1a7f37", False: "#b42318"}


class Strips:
    """Writes a strip of each plan that is executed first.

    Args:
        folder: where to write them.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, plan: Judged, asked: Asked, mode: str, world: World, follow_path: bool) -> None:
        """Execute a plan with pictures and write its strip, `TASK_SEED_CAMERA_MODE.png`."""
        rollout, executed, done = world.start(asked.request, len(asked.truth), asked.spacing), None, False
        try:
            executed = rollout.carry_out(plan.keys(follow_path)).frames
            done = bool(rollout.success)
        except UnreachableError:
            pass  # nothing to show but the plan
        request = asked.request
        text = f"{request.task}, {request.camera}, seed {request.seed}, {mode}: {'success' if done else 'failure'}"
        picture = strip(plan.frames, executed, text, done)
        with replacing(self._file(request.seed, request.task, request.camera, mode)) as temporary:
            picture.save(temporary, "PNG")

    def sheet(self, modes: Sequence[str], runs: Sequence[tuple[int, str, str]]) -> None:
        """Write `sheet.png` of the first existing strips of `runs` (seed, task, camera) in each mode."""
        files = [file for mode in modes for run in runs if (file := self._file(*run, mode)).is_file()][:ON_SHEET]
        if not files:
            return
        strips = [Image.open(file).convert("RGB") for file in files]
        height = sum(picture.height + _GAP for picture in strips) - _GAP
        sheet = Image.new("RGB", (max(picture.width for picture in strips), height), "white")
        top = 0
        for picture in strips:
            sheet.paste(picture, (0, top))
            top += picture.height + _GAP
        with replacing(self.folder / SHEET) as temporary:
            sheet.save(temporary, "PNG")

    def _file(self, seed: int, task: str, camera: str, mode: str) -> Path:
        return self.folder / file_name(f"{task}_{seed}_{camera}_{mode}.png", "name of a strip")


def strip(planned: np.ndarray, executed: np.ndarray | None, text: str, success: bool) -> Image.Image:
    """A line of text, then the planned frames (F, h, w, 3) uint8, then the executed ones, if there are any."""
    rows = [np.concatenate(list(frames), axis=1) for frames in (planned, executed) if frames is not None]
    side = planned.shape[1]
    scale = -(-_LEAST_SIDE // side) if side < _LEAST_SIDE else 1
    pictures = [
        Image.fromarray(row).resize((row.shape[1] * scale, row.shape[0] * scale), Image.Resampling.BICUBIC)
        for row in rows
    ]
    head = _TEXT + 2 * _GAP
    made = Image.new("RGB", (pictures[0].width, head + sum(picture.height for picture in pictures)), "white")
    font = ImageFont.load_default(_TEXT)
    ImageDraw.Draw(made).text((2, _GAP - 1), text, _COLOURS[success], font=font)
    for number, picture in enumerate(pictures):
        made.paste(picture, (0, head + number * pictures[0].height))
    return made

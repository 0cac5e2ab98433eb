"""What a run shows while it is going on: its log, its validation pictures, and the picture made of both.

The folder of a run is written by `training`: `log.jsonl` (one object per line, possibly half a line at the end while it
is being written), and `validation/STEP/NAME.png` with the plan alone and `NAME_beside_truth.png` with the ground truth.
"""

import time
from dataclasses import dataclass, field
from pathlib import Path

import comfy.utils
import numpy as np

from ....visual_planner.checks.run_picture import draw_run
from ....visual_planner.errors import PlannerError
from ....visual_planner.json_text import json_record
from ..processes.beside import State

_LOG, _PLANS, _BESIDE = "log.jsonl", "validation", "_beside_truth"
_TRAIN = 0
_AGAIN_S = 5.0
"""Time after which a picture is sent again, for a page that was opened meanwhile [s]."""
_AT_MOST_S = 0.5
"""Interval between two pictures [s]."""
_LARGEST = 1e12
"""Values of this size or larger, and NaN, are left out."""


@dataclass
class RunLog:
    """The lines of a run's log, as points.

    Attributes:
        losses: (step, loss).
        held_out: (step, loss on held-out pairs).
        seconds: computing time of the whole run [s].
    """

    losses: list[tuple[int, float]] = field(default_factory=list)
    held_out: list[tuple[int, float]] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def step(self) -> int:
        """The last step in it; 0 if there is none."""
        return max((points[-1][0] for points in (self.losses, self.held_out) if points), default=0)


def read_log(run: Path) -> RunLog:
    """The log so far; invalid lines are left out, since they are still being written."""
    log = RunLog()
    try:
        lines = (run / _LOG).read_bytes().split(b"\n")
    except OSError:
        return log
    for line in lines:
        if not line.rstrip().endswith(b"}"):
            continue
        try:
            row = json_record(line, "log")
        except PlannerError:
            continue
        step = _number(row.get("step"))
        for key, points in (("loss", log.losses), ("validation_loss", log.held_out)):
            value = _number(row.get(key))
            if step is not None and value is not None:
                points.append((round(step), value))
        log.seconds = _number(row.get("seconds")) or log.seconds
    return log


def _number(value: object) -> float | None:
    """A number that can be drawn."""
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if plain and abs(value) < _LARGEST else None


def newest_pictures(run: Path, beside: bool) -> list[np.ndarray]:
    """Pictures (H, W, 3) uint8 of the newest validation: plans, or plans beside the ground truth."""
    folders = sorted((run / _PLANS).glob("[0-9]*"))
    files = sorted(folders[-1].glob("[!.]*.png")) if folders else []
    return [read_picture(file) for file in files if file.stem.endswith(_BESIDE) == beside]


def read_picture(file: Path) -> np.ndarray:
    """A picture (H, W, 3) uint8."""
    from PIL import Image

    with Image.open(file) as picture:
        return np.asarray(picture.convert("RGB"))


def preview(pixels: np.ndarray, longest: int | None = None) -> tuple:
    """A picture (H, W, 3) uint8 in the form of a progress bar's preview, its longer side at most `longest` [px]."""
    from PIL import Image

    return "PNG", Image.fromarray(pixels), longest


class View:
    """The live picture and the progress bar of a node whose run is in progress.

    Args:
        run: folder of the run.
        name: name of the planner.
        steps: number of steps of the whole run.
    """

    def __init__(self, run: Path, name: str, steps: int) -> None:
        self.run, self.name, self.steps = run, name, steps
        self.bar = comfy.utils.ProgressBar(steps)
        self._state = State()
        self._sent, self._shown = 0.0, None

    def look(self, state: State) -> None:
        """Show what is new.

        Raises:
            InterruptProcessingException: the user has cancelled.
        """
        self._state = state
        marks = self._marks(), state.stage, state.stopping
        now = time.monotonic()
        due = _AT_MOST_S if marks != self._shown else _AGAIN_S
        step = min(self.steps, state.done if state.stage <= _TRAIN else self.steps)
        if now - self._sent < due:
            return self.bar.update_absolute(step, self.steps)
        self._sent, self._shown = now, marks
        return self.bar.update_absolute(step, self.steps, self._picture())

    def _picture(self) -> tuple | None:
        """The picture for the progress bar; None if a file has just disappeared, which does not affect the training."""
        try:
            return preview(self.draw())
        except (OSError, ValueError):
            return None

    def _marks(self) -> tuple:
        """A value that changes with the log and with the newest pictures."""
        paths = [self.run / _LOG, *sorted((self.run / _PLANS).glob("[0-9]*"))[-1:]]
        return tuple((str(path), path.stat().st_mtime_ns if path.exists() else 0) for path in paths)

    def draw(self, step: int | None = None) -> np.ndarray:
        """The picture (H, W, 3) uint8; `step` is the one at which the run ended."""
        log = read_log(self.run)
        return draw_run(
            [self._headline(log, step), figures(log)], log.losses, log.held_out, max(self.steps, log.step),
            newest_pictures(self.run, beside=True),
        )  # fmt: skip

    def _headline(self, log: RunLog, ended: int | None) -> str:
        step = max(log.step, self._state.done) if ended is None else ended
        doing = {-1: "starting", _TRAIN: "training" if self._state.total else "loading"}.get(
            self._state.stage, "export"
        )
        doing = "stopping" if self._state.stopping else doing
        return f"{self.name}: step {step} of {self.steps}{f', {doing}' if ended is None else ''}"


def figures(log: RunLog) -> str:
    """The newest losses and the computing time, in a line."""
    parts = [f"loss {log.losses[-1][1]:.4f}"] if log.losses else []
    parts += [f"on held-out pairs {log.held_out[-1][1]:.4f}"] if log.held_out else []
    parts += [f"{log.seconds:.0f} s of training"] if log.seconds else []
    return ", ".join(parts)

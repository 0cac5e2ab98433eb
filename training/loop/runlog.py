"""Log of a run: log.jsonl, and TensorBoard events if requested."""

import json
from pathlib import Path

import numpy as np

from visual_planner.errors import brief
from visual_planner.json_text import json_record

from ..errors import TrainingError
from ..files import append_text, write_text

LOG, EVENTS, PLANS = "log.jsonl", "tensorboard", "validation"
"In a run's folder: the log, TensorBoard's folder, the folder of validation images by step."
BESIDE = "_beside_truth"
"Name suffix of an image that shows ground truth and plan; the name without it is the plan alone."


def read_log(run: Path) -> list[dict]:
    """The lines of a run's log; half a line that a kill left is skipped.

    Raises:
        TrainingError: the run has no log, or a line is not a log line.
    """
    file = Path(run) / LOG
    if not file.is_file():
        raise TrainingError(f"run {run} has no {LOG}")
    rows = []
    for number, line in enumerate(file.read_bytes().split(b"\n"), 1):
        if not line.rstrip().endswith(b"}"):
            continue
        what = f"log {file} line {number}"
        row = json_record(line, what, TrainingError)
        values = {"step": row.get("step"), **{key: row[key] for key in ("loss", "validation_loss") if key in row}}
        if type(values["step"]) is not int or not all(type(value) in (int, float) for value in values.values()):
            raise TrainingError(f"{what} must have a whole number as step and numbers as losses, got {brief(values)}")
        rows.append(row)
    return rows


class RunLog:
    """Log of a run; lines of steps after the one that a run resumes from are dropped.

    Args:
        folder: folder of the run.
        step: steps done.
        tensorboard: also write events to `tensorboard/`.

    Raises:
        TrainingError: TensorBoard is requested but not installed.
    """

    def __init__(self, folder: Path, step: int, tensorboard: bool = False) -> None:
        self.folder, self.writer = Path(folder), None
        if (self.folder / LOG).exists():
            kept = [line for line in read_log(self.folder) if line["step"] <= step]
            write_text(self.folder / LOG, "".join(json.dumps(line) + "\n" for line in kept))
        if tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError as error:
                raise TrainingError("tensorboard: true needs the package: pip install tensorboard") from error
            self.writer = SummaryWriter(str(self.folder / EVENTS), purge_step=step + 1)

    def write(self, record: dict) -> None:
        """Add a line; `step` is in it, numbers go to TensorBoard too.

        Raises:
            WritingError: the log cannot be written; no half line is left in it.
        """
        rounded = {key: round(value, 6) if isinstance(value, float) else value for key, value in record.items()}
        append_text(self.folder / LOG, json.dumps(rounded) + "\n")
        if self.writer is not None:
            for key, value in record.items():
                if key != "step":
                    self.writer.add_scalar(key, value, record["step"])
            self.writer.flush()

    def picture(self, name: str, pixels: np.ndarray, step: int) -> None:
        """Show a picture (H, W, 3 uint8) in TensorBoard."""
        if self.writer is not None:
            self.writer.add_image(name, pixels, step, dataformats="HWC")
            self.writer.flush()

    def close(self) -> None:
        """Finish the events file."""
        if self.writer is not None:
            self.writer.close()

"""Loss curves of finished or running runs, as a picture."""

import json
from pathlib import Path

import numpy as np

from .errors import TrainingError
from .files import replacing

_WINDOW = 5


def draw_curves(runs: dict[str, Path], path: Path) -> None:
    """Draw the smoothed loss of each run over its minutes of computing, side by side.

    Args:
        runs: folder of each run, by the title to print.
        path: PNG file to write.

    Raises:
        TrainingError: a run has no log.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(runs), figsize=(4 * len(runs), 3), squeeze=False, layout="constrained")
    for axis, (title, run) in zip(axes[0], runs.items(), strict=True):
        log = run / "log.jsonl"
        if not log.is_file():
            raise TrainingError(f"run {run} has no log.jsonl")
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        minutes = np.array([line["seconds"] / 60 for line in lines])
        loss = np.array([line["loss"] for line in lines])
        axis.plot(minutes, loss, color="0.8", linewidth=0.8)
        width = min(_WINDOW, len(loss))
        smooth = np.convolve(loss, np.ones(width) / width, mode="valid")
        axis.plot(minutes[width - 1 :], smooth, color="#d1495b", linewidth=1.6)
        axis.set(title=f"{title}, {lines[-1]['step']} steps", xlabel="minutes on two CPU cores", ylabel="loss")
        axis.set_ylim(0, float(np.quantile(loss, 0.98)) * 1.1)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=90, format="png")
    pyplot.close(figure)

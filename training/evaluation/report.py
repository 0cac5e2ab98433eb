"""An evaluation and the runs behind it as one HTML page that needs no other file."""

import base64
from html import escape
from pathlib import Path

from runtime.names import is_file_name
from visual_planner.errors import brief, plain

from ..errors import TrainingError
from ..files import read_json, write_text
from ..loop.runlog import BESIDE, LOG, PLANS, read_log
from ..sections.config import Config
from .charts import interval_chart, loss_curve, svg

_RUNS = ("vae", "pretrain", "train", "decoder")
_CHARTS = {
    "psnr_db": "PSNR [dB], frames 2 on (higher is better)",
    "ssim": "SSIM, frames 2 on (a static plan scores well)",
    "lpips_alex": "LPIPS, AlexNet (lower is better)",
    "motion_ratio": "Motion, plan / ground truth (1 is ideal)",
    "end_effector_ade_px": "End effector, mean error ADE [px]",
    "end_effector_fde_px": "End effector, final error FDE [px]",
}
_RATES = {"moved_most": "requested object moved most", "checks_passed": "all checks passed"}
_LATER_RATES = {"colour_kept": "held object keeps its colour"}
"""Rates that older records and other data may lack."""
_STYLE = (
    "body{font:15px/1.5 sans-serif;margin:2em auto;max-width:1320px;padding:0 1em;color:#222}"
    "table{border-collapse:collapse}td,th{padding:.25em .7em;border-bottom:1px solid #ddd;text-align:right}"
    "td:first-child,th:first-child{text-align:left}td small{color:#777}img{max-width:100%;image-rendering:auto}"
    ".plots{display:flex;flex-wrap:wrap;gap:1em}li{margin:.1em 0}"
)


def report(config: Config) -> Path:
    """Write `evaluate.out`/report.html; returns the file.

    Raises:
        TrainingError: there is no finished evaluation.
    """
    folder = Path(config.section("evaluate").out)
    if not (folder / "metrics.json").is_file():
        raise TrainingError(f"evaluation {folder} has no metrics.json: run evaluate first")
    result, rows = read_metrics(folder / "metrics.json")
    runs = {name: Path(section.out) for name in _RUNS if (section := getattr(config, name)) is not None}
    runs = {name: run for name, run in runs.items() if (run / LOG).is_file()}
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8>",
        f"<title>Planner evaluation</title><style>{_STYLE}</style><h1>Planner evaluation</h1>",
        f"<p>{_text(result['lora'])} on {_text(result['scenes'])} scenes of {_text(result['source'])}, "
        f"{_text(result['steps'])} steps, seed {_text(result['seed'])}.</p>",
        "<h2>Figures</h2>",
        _table(rows),
        "<h2>Protocol</h2><ul>",
        *(f"<li>{_text(line)}</li>" for line in result["protocol"]),
        "</ul><h2>Plots</h2><div class=plots>",
        *(_chart(rows, key, title) for key, title in _CHARTS.items()),
        *(svg(loss_curve(read_log(run), f"loss: {name}")) for name, run in runs.items()),
        "</div>",
        *_pictures(folder, rows),
        *_validation(runs.get("train")),
    ]
    write_text(folder / "report.html", "\n".join(parts) + "\n")
    print(folder / "report.html")
    return folder / "report.html"


def read_metrics(file: Path) -> tuple[dict, dict[str, dict]]:
    """Read the results of an evaluation: the whole record, and its rows of figures by name.

    Raises:
        TrainingError: the file is not a record of `evaluate`; the message names what it lacks.
    """
    result = read_json(file, "figures")
    rows = {name: row for name, row in result.items() if isinstance(row, dict) and "psnr_db" in row}
    result = {"lora": None, "source": None, **result}
    for key in ("scenes", "steps", "seed", "protocol"):
        if key not in result:
            raise TrainingError(f"figures {file} must have {key!r}: were they written by evaluate?")
    if not isinstance(result["protocol"], list):
        raise TrainingError(f"figures {file}: protocol must be a list of lines, got {brief(result['protocol'])}")
    for name, row in rows.items():
        for key in (*_CHARTS, "fvd_i3d"):
            if row.get(key):
                _check_figure(row[key], f"figures {file}: {plain(name)}.{key}", needs_interval=key in _CHARTS)
        for key in _RATES:
            _check_rate(row.get(key), f"figures {file}: {plain(name)}.{key}")
        for key in _LATER_RATES.keys() & row.keys():
            _check_rate(row[key], f"figures {file}: {plain(name)}.{key}")
    return result, rows


def _check_figure(figure: object, what: str, needs_interval: bool) -> None:
    held = figure if isinstance(figure, dict) else {}
    interval = held.get("interval")
    numbers = [held.get("value"), *(interval if isinstance(interval, list) else [] if interval is None else [interval])]
    if not all(_is_number(value) for value in numbers) or len(numbers) not in ((3,) if needs_interval else (1, 3)):
        raise TrainingError(f"{what} must have a number as value and two as interval, got {brief(figure)}")


def _check_rate(figure: object, what: str) -> None:
    held = figure if isinstance(figure, dict) else {}
    count, interval = held.get("n"), held.get("interval")
    if type(count) is int and count == 0:
        return
    counts = all(type(value) is int and 0 <= value < 2**53 for value in (count, held.get("successes")))
    if not counts or not isinstance(interval, list) or len(interval) != 2 or not all(map(_is_number, interval)):
        raise TrainingError(f"{what} must have n, successes and an interval of two numbers, got {brief(figure)}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e12


def _text(value: object) -> str:
    """A value of a record for the page: shortened, and escaped so that it cannot be markup."""
    return escape(value if isinstance(value, str) else str(value) if type(value) in (int, float) else brief(value))


def _table(rows: dict[str, dict]) -> str:
    """All figures with their intervals; cells without a figure stay empty."""
    columns = [key for key in (*_CHARTS, "fvd_i3d") if any(row.get(key) for row in rows.values())]
    later = [key for key in _LATER_RATES if any(key in row for row in rows.values())]
    rates = {**_RATES, **{key: _LATER_RATES[key] for key in later}}
    head = "".join(f"<th>{escape(name)}" for name in ("", *columns, *rates.values()))
    lines = [f"<table><tr>{head}"]
    for name, row in rows.items():
        cells = [_cell(row.get(key)) for key in columns] + [_rate(row[key]) if key in row else "" for key in rates]
        lines.append(f"<tr><td>{escape(name)}" + "".join(f"<td>{cell}" for cell in cells))
    return "\n".join([*lines, "</table>"])


def _cell(figure: dict | None) -> str:
    if not figure:
        return ""
    interval = figure.get("interval")
    around = f"<br><small>{interval[0]:.3f} to {interval[1]:.3f}</small>" if interval else ""
    return f"{figure['value']:.3f}{around}"


def _rate(figure: dict) -> str:
    if not figure["n"]:
        return ""
    low, high = figure["interval"]
    return f"{figure['successes']}/{figure['n']}<br><small>{low:.0%} to {high:.0%}</small>"


def _chart(rows: dict[str, dict], key: str, title: str) -> str:
    figures = {plain(name, 40): row[key] for name, row in rows.items() if row.get(key)}
    return svg(interval_chart(figures, title)) if figures else ""


def _pictures(folder: Path, rows: dict[str, dict]) -> list[str]:
    """Truth (upper row) and plan (lower row) of some scenes, by mode."""
    named = [(name, folder / f"{name}.png") for name in rows if is_file_name(name)]
    found = [(name, file) for name, file in named if file.is_file()]
    return [
        f"<h2>Plans, mode {escape(name)}: ground truth above, plan below</h2>{_image(file)}" for name, file in found
    ]


def _validation(run: Path | None) -> list[str]:
    """The run's newest validation pictures."""
    steps = sorted((run / PLANS).glob("[0-9]*")) if run is not None else []
    if not steps:
        return []
    title = f"<h2>Validation at step {escape(steps[-1].name.lstrip('0') or '0')}: given frame, ground truth, plan</h2>"
    return [title, *(_image(file) for file in sorted(steps[-1].glob(f"*{BESIDE}.png")))]


def _image(file: Path) -> str:
    data = base64.b64encode(file.read_bytes()).decode("ascii")
    return f'<p><img alt="{escape(file.stem)}" src="data:image/png;base64,{data}"></p>'

"""The table at the end of a run: what was measured, by group, and what was not."""

from __future__ import annotations

from collections.abc import Callable

Line = dict
_WAYS = ("none", "first_cell", "first_cell_cached", "full_grid")


def summary(lines: list[Line]) -> str:
    """Text of a run's results, from the last line of each part."""
    blocks = [_machine(lines), _planning(lines), _training(lines), _others(lines), _ends(lines)]
    return "\n\n".join(block for block in blocks if block) + "\n"


def table(head: list[str], rows: list[list[object]]) -> str:
    """Aligned columns; None becomes a dash."""
    texts = [head, *([_text(value) for value in row] for row in rows)]
    widths = [max(len(row[place]) for row in texts) for place in range(len(head))]
    lines = ["  ".join(value.ljust(width) for value, width in zip(row, widths, strict=True)).rstrip() for row in texts]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def _text(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _machine(lines: list[Line]) -> str:
    found = next((line["figures"] for line in lines if line["part"] == "machine"), {})
    names = {
        "gpu": "GPU", "gpu_gib": "GPU memory [GiB]", "peak_tflops": "dense bf16 peak [TFLOP/s]",
        "product_tflops": "measured product [TFLOP/s]", "copy_tb_per_s": "measured copy [TB/s]", "cpus": "CPUs",
    }  # fmt: skip
    said = [f"{title}: {_text(found[name])}" for name, title in names.items() if found.get(name) is not None]
    versions = ", ".join(f"{name} {version}" for name, version in found.get("packages", {}).items())
    return "\n".join([*said, versions]) if found else ""


def _planning(lines: list[Line]) -> str:
    """Seconds of a step, plans with their ratios to as many steps without a condition, and memory."""
    rows = []
    for line, figures in _of(lines, "planning/"):
        if "plain_step_s" in figures:
            continue
        steps = [figures.get(way, {}).get("step_s") for way in _WAYS]
        fraction = figures.get("first_cell", {}).get("fraction_of_peak")
        rows.append([line["part"], *steps, fraction, *_plans(figures), figures.get("peak_gib", {}).get("first_cell")])
    compiled = [
        [line["part"], figures["plain_step_s"], *(figures.get(f"compiled_{way}", {}).get(name)
         for way in ("first_cell", "first_cell_cached") for name in ("step_s", "first_step_s"))]
        for line, figures in _of(lines, "planning/") if "plain_step_s" in figures
    ]  # fmt: skip
    head = ["planning [s]", *_WAYS, "of peak", "long plan", "/ none", "short plan", "/ none", "GiB"]
    second = ["compiled [s]", "plain first_cell", "first_cell", "(first call)", "cached", "(first call)"]
    return "\n\n".join(table(*pair) for pair in ((head, rows), (second, compiled)) if pair[1])


def _training(lines: list[Line]) -> str:
    rows = []
    for line, figures in _of(lines, "training/"):
        memory, computed = figures.get("memory", {}), figures.get("computed", {})
        rows.append([
            line["part"], figures.get("step_s"), figures.get("examples_of_a_step"), figures.get("example_s"),
            figures.get("tflop_per_s"), figures.get("fraction_of_peak"), computed.get("tensors"),
            memory.get("measured_gib"), memory.get("difference_percent"), figures.get("hours_of_the_recipe"),
        ])  # fmt: skip
    head = [
        "training",
        "s/step",
        "examples",
        "s/example",
        "TFLOP/s",
        "of peak",
        "computed GiB",
        "measured GiB",
        "%",
        "hours",
    ]
    return table(head, rows) if rows else ""


def _others(lines: list[Line]) -> str:
    """Parts that belong to no group, with their figures as they are."""
    told = []
    for line in lines:
        if line["part"].startswith(("planning/", "training/")) or line["part"] == "machine":
            continue
        told += [f"{line['part']}: {name} = {_flat(value)}" for name, value in line["figures"].items()]
    return "\n".join(told)


def _ends(lines: list[Line]) -> str:
    rows = [[line["part"], line["status"], line["seconds"], line.get("cpu_seconds"), line["error"]] for line in lines]
    return table(["part", "ended", "seconds", "of CPU", "why"], rows)


def _of(lines: list[Line], group: str) -> list[tuple[Line, dict]]:
    return [(line, line["figures"]) for line in lines if line["part"].startswith(group) and line["figures"]]


def _plans(figures: dict) -> list[float | None]:
    """Seconds of the long and the short plan with a cached condition, each with its ratio to steps without a condition.

    The ratio's denominator is the faster of the two implementations of attention that were timed without a condition.
    """
    plain = [figures.get("none", {}).get("step_s"), figures.get("none_with_our_attention_s")]
    step = min((value for value in plain if value), default=None)
    cells: list[float | None] = []
    for name, seconds in figures.items():
        if name.startswith("plan_of_"):
            count = int(name.split("_")[2])
            cells += [seconds, seconds / (count * step) if step else None]
    return [*cells, *[None] * 4][:4]


def _flat(value: object, text: Callable[[object], str] = _text) -> str:
    if not isinstance(value, dict):
        return text(value)
    return ", ".join(f"{name} {_flat(part)}" for name, part in value.items())

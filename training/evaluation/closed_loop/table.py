"""The figures of a closed loop as text: one line per figure or, with many tasks, a Markdown table with them as rows."""

_MANY_TASKS = 5


def table(result: dict) -> str:
    """All figures, in Markdown if there are many tasks; preceded by what disturbed the world, if anything did."""
    columns = list(_columns(result))
    tasks = list(columns[0][1]["tasks"]) if columns else []
    figures = _by_task(columns, tasks, result) if len(tasks) >= _MANY_TASKS else _by_figure(columns)
    return "\n".join([*_conditions(result), figures, *_colours(result)])


def _conditions(result: dict):
    """One line each on disturbances, on the re-planning rule beside them, and on rejected plans."""
    settings = result.get("settings", {})
    if kinds := settings.get("disturb"):
        yield f"disturbed by {', '.join(kinds)} (strength {settings['disturb_strength']:g})"
    for mode, counts in result.get("disturbed", {}).items():
        yield f"{mode}: " + ", ".join(f"{kind} happened in {count} scenes" for kind, count in counts.items())
    if rule := result.get("replanning"):
        yield f"re-planning: {rule}"
    for mode, counts in result.get("rejected", {}).items():
        yield (
            f"{mode}: {counts['rejected']} of {counts['plans']} plans rejected; scenes without a good one: "
            f"{counts['scenes_without_a_good_one']}"
        )


def _colours(result: dict):
    """One line for each mode on the colour of held objects."""
    for mode, row in result.get("colour_kept", {}).items():
        yield f"{mode}: the held object keeps its colour in {rate_text(row)} plans"


def _columns(result: dict):
    """(name, rate) of every figure in its order."""
    yield from result.get("bounds", {}).items()
    for group in ("success", "single", "any", "once", "on_path"):
        for mode, row in result.get(group, {}).items():
            yield mode if group == "success" else f"{mode} ({group})", row
    for name, row in result.get("baselines", {}).items():
        for mode, one in row.items() if name == "no_lora" else ((None, row),):
            yield name if mode is None else f"{name} {mode}", one


def _by_figure(columns: list[tuple[str, dict]]) -> str:
    lines = [f"{'':18}{'success':>10}{'rate':>7}{'95% interval':>16}   per task"]
    for name, row in columns:
        tasks = "  ".join(f"{task} {r['successes']}/{r['n']}" for task, r in row["tasks"].items())
        interval = f"{row['low']:.0%} to {row['high']:.0%}"
        lines.append(f"{name:18}{row['successes']:>6}/{row['n']:<3}{row['rate']:>7.0%}{interval:>16}   {tasks}")
    return "\n".join(lines)


def _by_task(columns: list[tuple[str, dict]], tasks: list[str], result: dict) -> str:
    eyes = result.get("needs_eyes", [])
    rows = [["task", *(name.replace("_", " ") for name, _ in columns)], ["---"] * (1 + len(columns))]
    for task in tasks:
        cells = [f"{row['tasks'][task]['successes']}/{row['tasks'][task]['n']}" for _, row in columns]
        rows.append([f"{task} *" if task in eyes else task, *cells])
    rows.append(["**all**", *(rate_text(row) for _, row in columns)])
    if eyes:
        rows.append(
            [f"the {len(eyes)} that need eyes (*)", *(rate_text(row["needs_eyes"]) for _, row in columns)]
        )  # fmt: skip
    for camera in columns[0][1].get("cameras", {}):
        rows.append([f"camera {camera}", *(rate_text(row["cameras"][camera]) for _, row in columns)])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def rate_text(row: dict) -> str:
    """`261/275 = 94.9% (92% to 97%)`."""
    if not row["n"]:
        return "-"
    return f"{row['successes']}/{row['n']} = {row['rate']:.1%} ({row['low']:.0%} to {row['high']:.0%})"

"""The command `bench gpu`: pack, or run the parts and print the summary."""

from __future__ import annotations

from pathlib import Path

from launcher.console import note
from launcher.errors import LauncherError
from launcher.options import GPU_BUDGET_S
from launcher.paths import ROOT, shown

from .plan import PARTS, Part, runs
from .size import REAL, REHEARSAL

SUMMARY = "summary.txt"


def run_gpu(options, parts: tuple[Part, ...] = PARTS) -> int:
    """Run `bench gpu`.

    Args:
        options: options of `launcher.options.gpu_parser`.
        parts: parts to choose from.

    Returns:
        0 if every part was done or cannot be done on this machine, otherwise 1.

    Raises:
        LauncherError: the options name a part that does not exist, or what must be packed is missing.
    """
    if options.pack is not None:
        from .pack import pack

        print(pack(options.pack))
        return 0
    from .results import Results
    from .runner import Runner, default_folder
    from .summary import summary

    size = REHEARSAL if options.rehearse else REAL
    if options.runs is not None:
        if not (further := runs(options.runs)):
            raise LauncherError(
                f"--runs must name a folder of prepared trainings (NAME/config.yaml), got {options.runs}"
            )
        parts += further
    chosen = _chosen(options.only, parts)
    folder = default_folder(ROOT, size) if options.out is None else Path(options.out)
    results = Results(folder, options.resume)
    runner = Runner(size, results, options.budget or GPU_BUDGET_S * size.patience, note)
    try:
        complete = runner.run(chosen)
    finally:
        text = summary(results.latest(size.name, runner.machine))
        (folder / SUMMARY).write_text(text, encoding="utf-8")
        print(text)
        note(f"results: {shown(results.file)}; what the parts printed: {shown(results.log)}")
    return 0 if complete else 1


def _chosen(only: str | None, parts: tuple[Part, ...]) -> tuple[Part, ...]:
    """The requested parts and those that they need; a full name selects that part, any other text is a prefix."""
    if only is None:
        return parts
    names = [name.strip() for name in only.split(",") if name.strip()]
    wanted: set[str] = set()
    for name in names:
        found = {part.name for part in parts if part.name == name} or {
            part.name for part in parts if part.name.startswith(name)
        }
        if not found:
            known = ", ".join(part.name for part in parts)
            raise LauncherError(f"--only must name parts ({known}) or how they begin, got {name!r}")
        wanted |= found
    return tuple(part for part in parts if part.required or part.name in wanted)

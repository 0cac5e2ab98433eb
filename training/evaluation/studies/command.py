"""`python -m training study NAME --config FILE --out DIR`: measure, plot, write the page."""

import argparse
from importlib import import_module
from pathlib import Path

from pydantic import ValidationError

from visual_planner.errors import brief

from ...errors import TrainingError
from ...files import ROOT, as_record, read_json, replacing, shown, write_json, write_text
from ...sections.config import first_problems
from ...sections.output import hold_all
from ...sections.yaml_text import read_yaml, read_yaml_mapping
from .base import Study, sentence_lines

STUDIES = {
    "failure_detection": "do the checks of a plan's frames predict that it fails?",
    "best_of": "does choosing among several plans, or re-planning, raise success?",
    "ablation": "what do the LoRA, the prompt's sentence and the drawn path contribute?",
    "conflict": "which wins when the instruction and the drawn path disagree?",
    "horizon": "how far ahead can chained plans reach?",
    "attention": "which cells of the grid attend to which, over layers and steps?",
    "steps": "how many steps of the sampler does a plan need, executed or looked at?",
    "comparison": "is a grid a better plan than a video, or than no pictures, in the same scenes?",
    "sweep": "success of planners that were trained differently (data, order, ids, tokens, one episode)",
}
CONFIGS = ROOT / "training" / "configs" / "studies"


def main(arguments: list[str]) -> None:
    """Run the command on the arguments after `study`.

    Raises:
        TrainingError: settings are unknown, or the study cannot be run.
    """
    parser = argparse.ArgumentParser(
        prog="python -m training study",
        description="Run one experiment: measurements, a plot, a page.",
        epilog="; ".join(f"{name}: {question}" for name, question in STUDIES.items()),
    )
    parser.add_argument("name", choices=STUDIES, help="which experiment")
    parser.add_argument("--config", type=Path, help="YAML of settings (default: training/configs/studies/NAME.yaml)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change one setting")
    parser.add_argument("--out", type=Path, required=True, help="folder of results.json, plot.png and page.md")
    parser.add_argument("--page", type=Path, help="also write page and plot to this path, such as docs/studies/NAME.md")
    parser.add_argument("--plot-only", action="store_true", help="redraw plot and page from existing results")
    options = parser.parse_args(arguments)
    plot = None if options.page is None else options.page.with_suffix(".png")
    with hold_all("study", options.out, options.page, plot):
        _run(options)


def _run(options: argparse.Namespace) -> None:
    study = import_module(f".{options.name}", __package__).STUDY
    results = options.out / "results.json"
    if options.plot_only:
        result = read_json(results, "results")
    else:
        file = options.config or CONFIGS / f"{options.name}.yaml"
        result = {"study": options.name, **measure(study, file, options.set, options.out)}
        write_json(results, result)
    with as_record(f"results {results}"):
        write_page(study, result, options.out / "page.md")
        if options.page is not None:
            write_page(study, result, options.page)
    print((options.out / "page.md").read_text(encoding="utf-8"))


def measure(study: Study, file: Path, changes: list[str], out: Path) -> dict:
    """Read the settings and measure; the result includes the settings."""
    if not file.is_file():
        raise TrainingError(f"settings {file} do not exist")
    data = read_yaml_mapping(file, "settings file")
    for change in changes:
        name, separator, value = change.partition("=")
        if not separator:
            raise TrainingError(f"--set must read KEY=VALUE, got {brief(change)}")
        data[name] = read_yaml(value, f"--set {brief(change)}")
    try:
        settings = study.settings.model_validate(data)
    except ValidationError as error:
        raise TrainingError(f"settings {file}: {first_problems(error)}") from error
    study.check(settings)
    told = {name: shown(value) for name, value in settings if isinstance(value, Path)}
    return {"settings": settings.model_dump(mode="json") | told, **study.measure(settings, out)}


def write_page(study: Study, result: dict, page: Path) -> None:
    """Write the page, and its plot beside it under the page's name."""
    plot = page.with_suffix(".png")
    figure = study.plot(result)
    with replacing(plot) as temporary:
        figure.savefig(temporary, dpi=110, format="png")
    write_text(page, sentence_lines(study.page(result).replace("PLOT", plot.name)))

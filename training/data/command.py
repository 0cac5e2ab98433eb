"""Command line of `prepare --source PATH --out DIR`."""

import argparse
import json

from ..sections.config import load_config
from ..sections.data import PrepareSection
from ..sections.output import output_of
from ..sections.sharding import add_options, asked_of


def prepare_command(arguments: list[str]) -> None:
    """Prepare a data set from options; a configuration, if given, supplies the other settings."""
    parser = argparse.ArgumentParser(
        prog="python -m training prepare", description="episodes \u2192 condition and target grids, prompts, overlays"
    )
    parser.add_argument("--config", help="YAML file; options override it (see training/configs)")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="change one value")
    parser.add_argument("--layout", metavar="ROWSxCOLS", help="rows x cols of the grid (default: 3x3)")
    parser.add_argument("--order", help="order of the frames (default: serpentine)")
    parser.add_argument("--cell", metavar="HEIGHTxWIDTH", help="size of a cell [px], multiples of 16")
    parser.add_argument("--modes", help="some of text,trajectory,both")
    parser.add_argument("--fit", help="how a frame fills its cell: letterbox, crop or stretch (default: letterbox)")
    for name, field in PrepareSection.model_fields.items():
        text = field.description + (
            "" if field.is_required() else f" (default: {_shown(field.get_default(call_default_factory=True))})"
        )
        parser.add_argument(f"--{name.replace('_', '-')}", metavar="VALUE", help=text.replace("%", "%%"))
    add_options(parser)
    asked = asked_of(parsed := parser.parse_args(arguments))
    options = vars(parsed)
    changes = [f"prepare.{name}={_yaml(name, options[name])}" for name in PrepareSection.model_fields if options[name]]
    for name, keys in (("layout", ("rows", "cols")), ("cell", ("cell_height", "cell_width"))):
        if options[name]:
            parts = options[name].lower().split("x")
            if len(parts) != 2 or not all(part.isdigit() for part in parts):
                parser.error(f"--{name} must be two numbers with an x between, got {options[name]!r}")
            changes += [f"spec.{key}={value}" for key, value in zip(keys, parts, strict=True)]
    changes += [f"spec.{name}={options[name]}" for name in ("order", "fit") if options[name]]
    changes += [f"spec.modes=[{options['modes']}]"] if options["modes"] else []
    from .prepare import prepare

    config = load_config(options["config"], [*changes, *options["set"]])
    with output_of("prepare", config, asked.part):
        prepare(config, asked)


def _yaml(name: str, value: str) -> str:
    """A value as YAML: texts quoted, so that an episode named 1e3 or a path with a colon stays a text."""
    kind = str(PrepareSection.model_fields[name].annotation)
    if "list" in kind:
        return f"[{value}]"
    return value if "int" in kind and "Path" not in kind else json.dumps(value)


def _shown(value: object) -> str:
    return "none" if value in (None, "", []) else str(value)

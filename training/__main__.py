"""Command line: `python -m training COMMAND --config FILE`."""

import argparse
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from runtime.entry import end_on_signals, run_command
from visual_planner.errors import PlannerError

from .sections.config import load_config
from .sections.output import output_of
from .sections.sharding import add_options, asked_of

CONFIGURED = {
    "vae": (".tiny_base.vae:train_vae", "train the tiny base's autoencoder from scratch"),
    "decoder": (".tiny_base.vae:train_decoder", "train the autoencoder's decoder alone on whole grids"),
    "pretrain": (".tiny_base.pretrain:pretrain", "train the tiny base from scratch on images that show no task"),
    "prepare": (
        ".data.prepare:prepare",
        "episodes \u2192 condition and target grids, prompts, overlays (prepare --help: its own options)",
    ),
    "cache": (".cache.write:cache", "pairs \u2192 latents and text embeddings on disk"),
    "train": (".planner.train:train", "train a planner LoRA on a cache; resumes from the newest checkpoint"),
    "distill": (
        ".planner.distill:distill",
        "train a planner LoRA to plan in a few steps, like its teacher in many; resumes like train",
    ),
    "export": (".planner.export:export", "write a run's LoRA for ComfyUI and diffusers"),
    "readout": (
        ".readout.train:train_readout",
        "train the network that reads the end effector and the gripper from frames",
    ),
    "video_baseline": (
        ".planner.baselines.video:train_video",
        "train a video-diffusion planner on a cache, to compare a grid planner with",
    ),
    "cloning_baseline": (
        ".planner.baselines.cloning:train_cloning",
        "train a policy that names keyframes without painting frames, to compare a grid planner with",
    ),
    "evaluate": (
        ".evaluation.evaluate:evaluate",
        "plan unseen scenes and compare with the ground truth; --closed-loop: execute (--closed-loop --help)",
    ),
    "improve": (
        ".evaluation.improve.rounds:improve",
        "plan and execute in a world, train on what succeeded, and again while held-out success rises; resumes",
    ),
    "report": (".evaluation.report:report", "write an evaluation, its plots and its runs as one HTML page"),
    "memory": (
        ".planner.memory:show_memory",
        "compute the memory of a training step without loading a weight",
    ),
}
"Commands that take a training configuration: where they are defined, and what they do."

DIVIDED = ("prepare", "cache", "evaluate")
"Commands whose work several processes can divide."

WITH_OWN_ARGUMENTS = {
    "check": (
        ".cache.check:check_command",
        "report every problem of prepared data at once, before a model is loaded (check --help)",
    ),
    "study": (".evaluation.studies.command:main", "run one experiment and write its plot and page (study --help)"),
    "describe": (".sections.describe:describe", "list every key of a configuration (describe [SECTION])"),
}
"Commands that parse their own arguments."


def main(arguments: list[str] | None = None) -> int:
    """Run one command; bad input ends with one line and exit code 2."""
    arguments = sys.argv[1:] if arguments is None else arguments
    return run_command(lambda: _run(arguments), (PlannerError,))


def _run(arguments: list[str]) -> int | None:
    own = _with_own_arguments(arguments)
    if own is not None:
        return own(arguments[1:])
    options = _parser().parse_args(arguments)
    if options.config is None:
        options.config = _config_of(options.world)
    more = (options.install,) if options.command == "export" else ()
    part = None
    if options.command in DIVIDED:
        more = (asked_of(options),)
        part = more[0].part
    config = load_config(options.config, options.set)
    with output_of(options.command, config, part):
        _load(CONFIGURED[options.command][0])(config, *more)
    return 0


def _config_of(world: str) -> Path:
    """The configuration that trains the read-out of a world."""
    from worlds.registry import world_class

    name = world_class(world).readout_config
    if not name:
        raise PlannerError(f"--world must be one with a configuration for its read-out, got {world}: use --config")
    return Path(__file__).resolve().parent / "configs" / name


def _with_own_arguments(arguments: list[str]) -> Callable[[list[str]], int | None] | None:
    """The function that parses the rest of the line, or None; for two commands this depends on the arguments."""
    command = arguments[0] if arguments else ""
    if command == "evaluate" and "--closed-loop" in arguments:
        return _load(".evaluation.closed_loop.command:main")
    if command == "prepare" and ("--help" in arguments or any(a.split("=")[0] == "--source" for a in arguments)):
        return _load(".data.command:prepare_command")
    return _load(WITH_OWN_ARGUMENTS[command][0]) if command in WITH_OWN_ARGUMENTS else None


def _load(place: str) -> Callable:
    """Import what `module:function` names; the other commands' packages would take seconds to import."""
    module, _, name = place.partition(":")
    return getattr(import_module(module, __package__), name)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training", description="Train planner LoRAs.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, (_, text) in (CONFIGURED | WITH_OWN_ARGUMENTS).items():
        command = commands.add_parser(name, help=text, description=text)
        if name == "readout":
            one = command.add_mutually_exclusive_group(required=True)
            one.add_argument("--config", help="YAML file, see training/configs")
            one.add_argument("--world", help="instead: the configuration of this world's own read-out")
        else:
            command.add_argument("--config", required=True, help="YAML file, see training/configs")
        command.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="change one value")
        if name in DIVIDED:
            add_options(command)
        if name == "export":
            command.add_argument("--install", metavar="COMFYUI", help="also copy the file to a ComfyUI's models/loras")
    return parser


if __name__ == "__main__":
    end_on_signals()
    sys.exit(main())

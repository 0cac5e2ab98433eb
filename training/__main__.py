"""Command line: `python -m training COMMAND --config FILE`."""

import argparse
import sys

from visual_planner.errors import PlannerError

from .config import load_config


def _run(command: str, config, options: argparse.Namespace) -> None:
    # each command's packages take seconds to import: only the one that runs is loaded
    if command == "vae":
        from .vae import train_vae as action
    elif command == "decoder":
        from .vae import train_decoder as action
    elif command == "pretrain":
        from .pretrain import pretrain as action
    elif command == "prepare":
        from .prepare import prepare as action
    elif command == "cache":
        from .cache import cache as action
    elif command == "train":
        from .train import train as action
    elif command == "readout":
        from .readout.train import train_readout as action
    elif command == "export":
        from .export import export

        export(config, options.install)
        return
    elif command == "report":
        from .report import report as action
    elif command == "memory":
        from .memory import show_memory as action
    else:
        from .evaluate import evaluate as action
    action(config)


def main(arguments: list[str] | None = None) -> int:
    """Run one command; bad input ends with one line and exit code 2."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        return _dispatch(arguments)
    except PlannerError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130


def _dispatch(arguments: list[str]) -> int:
    # commands without a training configuration
    if arguments[:1] == ["evaluate"] and "--closed-loop" in arguments:
        from .closed_loop.command import main as closed_loop

        closed_loop(arguments[1:])
        return 0
    if arguments[:1] == ["study"]:
        from .studies.command import main as study

        study(arguments[1:])
        return 0
    if arguments[:1] == ["prepare"] and (
        "--help" in arguments or any(part.split("=")[0] == "--source" for part in arguments)
    ):
        from .data_command import prepare_command

        prepare_command(arguments[1:])
        return 0
    if arguments[:1] == ["check"]:
        from .data_command import check_command

        return check_command(arguments[1:])
    if arguments[:1] == ["describe"]:
        from .describe import describe

        describe(arguments[1:])
        return 0
    parser = argparse.ArgumentParser(prog="python -m training", description="Train planner LoRAs.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (
        ("vae", "train the tiny base's autoencoder from scratch"),
        ("decoder", "train the autoencoder's decoder alone on whole grids"),
        ("pretrain", "train the tiny base from scratch on pictures that show no task"),
        ("prepare", "episodes → condition and target grids, prompts, overlays (prepare --help: its own options)"),
        ("check", "every problem of prepared data at once, before a model is loaded (check --help)"),
        ("cache", "pairs → latents and text embeddings on disk"),
        ("train", "train a planner LoRA on a cache; goes on from the newest checkpoint"),
        ("export", "write a run's LoRA for ComfyUI and diffusers"),
        ("readout", "train the network that reads end effector and gripper off frames"),
        ("evaluate", "plan unseen scenes and compare with the truth; --closed-loop: execute (--closed-loop --help)"),
        ("study", "one experiment with its plot and page (study --help)"),
        ("describe", "list every key of a configuration (describe [SECTION])"),
        ("report", "write an evaluation, its plots and its runs as one HTML page"),
        ("memory", "say how much memory a training step will take, without loading a weight"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("--config", required=True, help="YAML file, see training/configs")
        command.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="change one value")
        if name == "export":
            command.add_argument("--install", metavar="COMFYUI", help="also put the file into a ComfyUI's models/loras")
    options = parser.parse_args(arguments)
    _run(options.command, load_config(options.config, options.set), options)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Arguments of `python -m training evaluate --closed-loop`."""

import argparse
from pathlib import Path

from visual_planner.execution.keyframe_choice import RULES
from visual_planner.planner.prompts import MODES, USUAL_MODES
from worlds.disturbances import KINDS
from worlds.registry import WORLDS

from ...sections.sharding import add_options
from .settings import DEPARTED_M, MOMENT, REPLAN_FROM, Settings


def settings_of(options: argparse.Namespace) -> Settings:
    """The command's options as settings; what is not given stays the world's own."""

    def names(text: str) -> tuple[str, ...]:
        return tuple(name.strip() for name in text.split(",") if name.strip())

    # When the world has departed from a plan, its remaining frames are wrong; a new plan with that past repeats them.
    usual = MOMENT if options.replan_when_departed else Settings.replan_from
    return Settings(
        USUAL_MODES, options.first_seed, options.scenes, names(options.tasks), options.wordings, options.camera_jitter,
        options.camera_turn, options.best_of, options.replan, options.replan_from or usual, options.follow_path,
        options.batch_size, options.world, names(options.cameras), options.look, options.replans, options.steps,
        options.keyframes, names(options.disturb), options.disturb_strength, options.replan_when_departed,
        options.until_good,
    )  # fmt: skip


def planner_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments that say which planner and which read-out."""
    parser.add_argument("--planner", type=Path, help="folder of the planner (default: the world's)")
    parser.add_argument("--lora", type=Path, help="planner LoRA (default: the one in the folder's loras/)")
    parser.add_argument("--readout", type=Path, help="folder of the read-out (default: the world's)")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads (default: torch's default)")


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the command's arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m training evaluate --closed-loop", description="Execute plans of unseen scenes in a world."
    )
    parser.add_argument("--closed-loop", action="store_true", help="(this command)")
    parser.add_argument("--world", default="jaco", help=f"{' or '.join(WORLDS)} (default jaco)")
    planner_arguments(parser)
    parser.add_argument(
        "--mode", default="all",
        help=f"what plans are conditioned on, comma-separated: {', '.join(MODES)} (default: all of the planner's)",
    )  # fmt: skip
    parser.add_argument("--first-seed", type=int, help="seed of the first scene (default: the world's)")
    parser.add_argument(
        "--scenes", type=int,
        help="scenes per mode (default in world jaco: 100); in world metaworld: seeds, each with every task and camera "
        "(default 25)",
    )  # fmt: skip
    parser.add_argument("--tasks", default="", help="tasks, comma-separated (default: all)")
    parser.add_argument("--cameras", default="", help="cameras, comma-separated (default: all)")
    parser.add_argument("--look", default="", help="how the world is rendered; metaworld: plain (default) or shadows")
    parser.add_argument(
        "--wordings", default="", help="phrasings of the instructions (default in world jaco: held_out)"
    )  # fmt: skip
    parser.add_argument(
        "--keyframes", choices=RULES,
        help="how the frames of demonstrations and plans are spaced: evenly in time, or by the shape of the path "
        "(default: the world's; jaco: time, metaworld: shape)",
    )  # fmt: skip
    parser.add_argument(
        "--camera-jitter", type=float, default=0.0, help="standard deviation of the camera's position [m] (default 0)"
    )
    parser.add_argument(
        "--camera-turn", type=float, default=0.0, help="rotate the camera around the table [degrees] (default 0)"
    )
    parser.add_argument(
        "--best-of", type=int, default=1, help="plans per scene; the one with the highest score is executed (default 1)"
    )
    parser.add_argument(
        "--replan", "--replan-after", type=int, default=0, help="replan after this many frames (0: never)"
    )
    parser.add_argument(
        "--replan-when-departed", type=float, nargs="?", const=DEPARTED_M, default=0.0, metavar="METRES",
        help="replan when the end effector is seen so far from where the plan has it, or an object's colour elsewhere "
        f"(without a value {DEPARTED_M:g} m); needs --replans",
    )  # fmt: skip
    parser.add_argument(
        "--replan-from", choices=REPLAN_FROM,
        help="a new plan begins at the task's start and keeps the past frames, or at the current moment (default "
        "start; with --replan-when-departed moment)",
    )  # fmt: skip
    parser.add_argument(
        "--replans", type=int, default=0,
        help="at most this many further plans: by --replan or --replan-when-departed, else (world metaworld) where the "
        "end effector no longer moves (default 0: none, with --replan as many as fit)",
    )  # fmt: skip
    parser.add_argument(
        "--follow-path", action="store_true", help="keep the end effector on the drawn path, if there is one"
    )
    parser.add_argument(
        "--batch-size", type=int, default=Settings.batch_size, help="plans generated at once (default 16)"
    )
    parser.add_argument(
        "--until-good", type=int, default=1, metavar="N",
        help="sample again, with the next seed and at most N times in all, while no plan looks good (default 1)",
    )  # fmt: skip
    parser.add_argument(
        "--disturb", default="", metavar="KIND[,KIND]",
        help=f"what happens during execution, comma-separated: {', '.join(KINDS)} (default: nothing)",
    )  # fmt: skip
    parser.add_argument(
        "--disturb-strength", type=float, default=1.0, help="multiplies the disturbances' amounts (default 1)"
    )
    parser.add_argument(
        "--steps", type=int, default=0, help="steps of the sampler (0: the planner's own for execution)"
    )
    parser.add_argument("--no-baselines", action="store_true", help="omit bounds and baselines")
    parser.add_argument("--no-base", action="store_true", help="omit the base model without its LoRA")
    parser.add_argument("--json", type=Path, help="file to write the results to; finished scenes are kept beside it")
    parser.add_argument(
        "--pictures", type=Path, metavar="DIR",
        help="folder for pictures: of each plan its frames above those of its execution, and a sheet of the first ones",
    )  # fmt: skip
    add_options(parser)
    return parser.parse_args(arguments)

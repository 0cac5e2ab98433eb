"""The command line of run.py; parsed twice, so that a usage error is reported before an environment is created."""

from __future__ import annotations

import argparse
from pathlib import Path

MODES = ("text", "trajectory", "both", "goal", "text_goal", "trajectory_goal", "both_goal")
GPU_BUDGET_S = 480.0
"""Default time budget of `bench gpu` [s]."""
REHEARSAL_PATIENCE = 5
"""Factor on the budget and on the parts' limits in a rehearsal: a CPU may be slow, or emulate bfloat16."""
GPU_OPTIONS = ("budget", "rehearse", "resume", "only", "out", "runs", "pack")
"""Options of `bench` that only apply to `bench gpu`."""


def build_parser() -> argparse.ArgumentParser:
    """Parser of `run.py`."""
    parser = argparse.ArgumentParser(
        prog="run.py",
        description="Visual planner for robots in ComfyUI. The first run creates .venv and, unless COMFYUI_PATH is "
        "set, unpacks ComfyUI into .cache; both are reused.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="demo | serve | test | bench")
    _add_demo(commands)
    serve = commands.add_parser("serve", help="start ComfyUI with the plugin and its workflows in the browser")
    serve.add_argument("--port", type=_port, default=8188, help="port to listen on; if it is taken, the next free one")
    serve.add_argument("--no-browser", action="store_true", help="do not open a browser window")
    test = commands.add_parser("test", help="run the tests", prefix_chars="\0")
    test.add_argument("arguments", nargs=argparse.REMAINDER, help="arguments for pytest")
    bench = commands.add_parser("bench", help="run the benchmarks")
    bench.add_argument("name", nargs="?", help="one benchmark; all of them without a name")
    bench.add_argument("--json", type=Path, metavar="FILE", help="write ratios and raw times to FILE")
    bench.add_argument("--repeats", type=_positive, help="repeats per case")
    _add_gpu(bench.add_argument_group("bench gpu", "the released models' sizes on a GPU (docs/benchmarks/gpu.md)"))
    return parser


def gpu_parser() -> argparse.ArgumentParser:
    """Parser of `python -m benchmarks.gpu`, which is `run.py bench gpu` in the Python at hand."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu", description="Planning and training at the released models' sizes on a GPU."
    )
    _add_gpu(parser)
    return parser


def _add_gpu(bench: argparse._ActionsContainer) -> None:
    bench.add_argument(
        "--budget",
        type=_seconds,
        help=f"seconds for all parts (default: {GPU_BUDGET_S:.0f}, times {REHEARSAL_PATIENCE} in a rehearsal)",
    )
    bench.add_argument("--rehearse", action="store_true", help="the same code at tiny size on the CPU")
    bench.add_argument("--resume", action="store_true", help="skip the parts that are finished in the results")
    bench.add_argument("--only", metavar="NAMES", help="parts, separated by commas, by name or how it begins")
    bench.add_argument("--out", type=Path, metavar="DIR", help="folder of the results (default: output/bench_gpu)")
    bench.add_argument("--runs", type=Path, metavar="DIR", help="also the prepared trainings in DIR, in the time left")
    bench.add_argument("--pack", type=Path, metavar="DIR", help="collect what a GPU machine without internet needs")


def _add_demo(commands: argparse._SubParsersAction) -> None:
    demo = commands.add_parser("demo", help="generate a nine-frame plan with the bundled tiny planner")
    demo.add_argument(
        "--mode", choices=MODES, help="what the plan is conditioned on (default: follows from the other options)"
    )
    demo.add_argument("--instruction", metavar="S", help='the task, e.g. "push the red cube to the left"')
    demo.add_argument("--first-frame", type=Path, metavar="PNG", help="image of the scene (default: a bundled one)")
    demo.add_argument(
        "--trajectory", type=Path, metavar="JSON", help="path of the gripper in pixels of the first frame"
    )
    demo.add_argument("--goal", type=Path, metavar="PNG", help="image of the scene as it should be at the end")
    demo.add_argument("--seed", type=_seed, default=0, help="seed of the noise (default: 0)")
    demo.add_argument("--steps", type=_positive, help="denoising steps (default: the workflow's)")
    demo.add_argument("--out", type=Path, metavar="DIR", help="folder for the results (default: output/demo_MODE)")
    demo.add_argument("--serve", action="store_true", help="keep ComfyUI running afterwards, until Ctrl-C")


def _positive(text: str) -> int:
    value = int(text)
    if not 1 <= value <= 10_000:
        raise argparse.ArgumentTypeError(f"must be 1 to 10000, got {text}")
    return value


def _seconds(text: str) -> float:
    value = float(text)
    if not 1 <= value <= 86_400:
        raise argparse.ArgumentTypeError(f"must be 1 to 86400 seconds, got {text}")
    return value


def _seed(text: str) -> int:
    value = int(text)
    if not 0 <= value < 2**64:
        raise argparse.ArgumentTypeError(f"must be 0 to 2**64 - 1, got {text}")
    return value


def _port(text: str) -> int:
    value = int(text)
    if not 1 <= value <= 65535:
        raise argparse.ArgumentTypeError(f"must be 1 to 65535, got {text}")
    return value

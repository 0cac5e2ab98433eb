"""Where the time of a training step of the tiny planner goes.

`python -m benchmarks.training_profile [--steps N] [--json FILE] [--plot FILE]` runs steps of the loop that
`python3 run.py bench training` times, with torch's profiler around them, and adds up the CPU time of each kind of
operation, on one thread. Blocks are not compiled: compiled code has no operations with names.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter
from pathlib import Path

import torch

from .harness import machine
from .training import OurTrainer, configuration, write_episodes

KINDS: dict[str, tuple[str, ...]] = {
    "matrix products": ("mm", "addmm", "linear", "mkldnn_linear", "linear_backward", "_mkldnn"),
    "attention": ("bmm", "baddbmm", "softmax", "_softmax", "_scaled_dot_product", "_safe_softmax"),
    "optimizer": ("_foreach", "_fused_adamw", "lerp", "addcmul", "addcdiv", "sqrt", "linalg_vector_norm"),
    "GELU": ("gelu",),
    "norms": ("native_layer_norm", "layer_norm", "rms_norm", "_fused_rms_norm", "rsqrt", "pow", "mean"),
    "copies and concatenation": ("copy_", "cat", "clone", "fill_", "zero_", "index", "slice_backward", "constant_pad"),
    "sums and elementwise": ("mul", "add", "sum", "sub", "div", "neg", "silu", "exp", "sin", "cos", "stack"),
}
"""Kind -> how names of ATen operations begin; the longest beginning that fits counts."""
OTHER = "everything else"


def kind_of(name: str) -> str:
    """The kind of an operation by the profiler's name for it."""
    operation = name.removeprefix("aten::")
    fitting = [(len(known), kind) for kind, names in KINDS.items() for known in names if operation.startswith(known)]
    return max(fitting)[1] if fitting else OTHER


def measure(steps: int, changes: dict | None = None) -> dict:
    """Fraction of the CPU time of some steps by kind of operation, the step's seconds, and the machine.

    Args:
        steps: number of profiled steps.
        changes: settings that replace the recipe's, to test this.
    """
    from torch.profiler import ProfilerActivity, profile

    from training.cache.write import cache
    from training.data.prepare import prepare

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="visual-planner-profile-") as temporary:
        folder = Path(temporary)
        write_episodes(folder / "episodes")
        config = configuration(folder, {"train.compile_blocks": False, "train.threads": 1} | (changes or {}))
        prepare(config)
        cache(config)
        trainer = OurTrainer(config)
        trainer.step()  # creates the optimizer's state
        with profile(activities=[ProfilerActivity.CPU]) as profiler:
            for _ in range(steps):
                trainer.step()
    times: Counter[str] = Counter()
    for event in profiler.key_averages():
        times[kind_of(event.key)] += event.self_cpu_time_total
    total = times.total()
    return {
        "machine": machine(), "steps": steps, "batch": config.train.batch_size * config.train.gradient_accumulation,
        "cpu_seconds_of_a_step": total / steps / 1e6,
        "fractions": {kind: time / total for kind, time in times.most_common()},
    }  # fmt: skip


def plot(result: dict, file: Path) -> None:
    """Draw the fractions as bars, the largest first."""
    from training.evaluation.charts import figure

    fractions = result["fractions"]
    made, (axis,) = figure(7.0, 0.45 * len(fractions) + 1)
    bars = axis.barh(list(fractions), [100 * value for value in fractions.values()], color="#3b6ea5")
    axis.bar_label(bars, fmt="%.0f%%", padding=3)
    axis.invert_yaxis()
    axis.set(xlabel=f"CPU time of a step of {result['batch']} examples [%]", xlim=(0, 112 * max(fractions.values())))
    file.parent.mkdir(parents=True, exist_ok=True)
    made.savefig(file, dpi=120)


def main(arguments: list[str] | None = None) -> None:
    """Measure, print, and write what the options name."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.training_profile", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--steps", type=int, default=3, help="profiled steps (default 3)")
    parser.add_argument("--json", type=Path, help="file for the results")
    parser.add_argument("--plot", type=Path, help="PNG file for the plot")
    options = parser.parse_args(arguments)
    if options.steps < 1:
        sys.exit(f"error: --steps must be at least 1, got {options.steps}")
    result = measure(options.steps)
    for kind, fraction in result["fractions"].items():
        print(f"{fraction:6.1%}  {kind}")
    print(f"{result['cpu_seconds_of_a_step']:.2f} CPU s for a step of {result['batch']} examples")
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    if options.plot is not None:
        plot(result, options.plot)


if __name__ == "__main__":
    main()

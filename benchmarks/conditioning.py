"""What the condition adds to a step of a plan: 960x720, each kind of condition against none, on two families.

One double-stream and one single-stream block with random weights stand for FLUX.1's 19 and 38 and for FLUX.2-klein-4B's
5 and 20, which have the same width: blocks account for the cost of a step, and both kinds cost the same per token. They
are ComfyUI's own classes with our wrapper around them. All cases take turns in one process. For `first_cell_cached`,
a step counts with its fraction of the condition's single pass per plan.

On a CPU the time is CPU time, summed over threads, which wait without spinning; on a GPU it is wall time.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path

from launcher.bootstrap import clean_environment
from launcher.comfyui import find_comfyui
from launcher.console import StatusLine
from launcher.errors import LauncherError

from .harness import Benchmark

REPEATS = 3
PLAN_STEPS = 20
"""Steps of a plan with FLUX.1-dev, as published."""
FAMILIES = {"flux1": "", "flux2": "klein_"}
"""Family -> prefix of its cases' names."""
BLOCKS = {"flux1": 19 + 38, "flux2": 5 + 20}
"""Blocks of FLUX.1-dev and of FLUX.2-klein-4B."""
STEPS = {"flux1": PLAN_STEPS, "flux2": 4}
"""Steps of a plan: as published, and of the distilled klein."""
BOUNDS = {"klein_plan/flux1_plan": 0.06}
"""Ratio -> upper bound at the widths of the real models; each result says whether it holds."""
ONCE = "condition"
"Case of the single pass of a cached condition."


@dataclass(frozen=True)
class Setting:
    """Sizes of a measurement.

    Args:
        heads: attention heads of 128 channels.
        cell_height: height of a cell of the 3x3 grid [px].
        cell_width: width of a cell of the 3x3 grid [px].
        words: text tokens.
    """

    heads: int = 24
    cell_height: int = 240
    cell_width: int = 320
    words: int = 512


def run(repeats: int | None = None, setting: Setting | None = None) -> Benchmark:
    """Measure.

    Args:
        repeats: number of rounds; each runs every case once.
        setting: other sizes than FLUX.1's, to test the benchmark.

    Raises:
        LauncherError: the measuring process failed.
    """
    setting = setting or Setting()
    comfyui = find_comfyui()
    status = StatusLine("Conditioning")
    script = Path(__file__).with_name("conditioning_probe.py")
    order = json.dumps({**asdict(setting), "repeats": repeats or REPEATS, "once": ONCE, "families": FAMILIES})
    with subprocess.Popen(
        [str(comfyui.python), str(script), str(comfyui.folder), order],
        stdout=subprocess.PIPE, text=True, env={**clean_environment(), "OMP_WAIT_POLICY": "PASSIVE"},
    ) as process:  # fmt: skip
        last = ""
        for line in process.stdout:
            if line.strip():
                last = line
                status.update(line.strip()[:80])
    status.close()
    if process.returncode != 0:
        raise LauncherError(f"the blocks could not be run: the measuring process ended with {process.returncode}")
    result = json.loads(last)
    raw, memory = result["seconds"], result["megabytes"]
    for family, prefix in FAMILIES.items():
        steps, passes = raw[f"{prefix}first_cell_cached"], raw[f"{prefix}{ONCE}"]
        raw[f"{prefix}first_cell_cached"] = [a + b / STEPS[family] for a, b in zip(steps, passes, strict=True)]
    # A plan as published for FLUX.1, and one of the distilled klein.
    for plan, family, case in (("flux1_plan", "flux1", "full_grid"), ("klein_plan", "flux2", "klein_first_cell")):
        raw[plan] = [STEPS[family] * BLOCKS[family] / 2 * step for step in raw[case]]
    measured = Benchmark(
        "conditioning",
        "s",
        raw,
        {
            **{
                f"{prefix}{one}/{other}": (f"{prefix}{one}", f"{prefix}{other}")
                for prefix in FAMILIES.values()
                for one, other in (("full_grid", "first_cell"), ("first_cell", "none"), ("first_cell_cached", "none"))
            },
            "klein_plan/flux1_plan": ("klein_plan", "flux1_plan"),
        },
        {
            **{f"memory of {case} [MB]": "not measured" if size is None else size for case, size in memory.items()},
            **{
                f"cached keys and values of the whole model, {family} [MB]": size * BLOCKS[family]
                for family, size in result["kept_megabytes_a_block"].items()
            },
            "tokens": result["tokens"],
            "run on": result["device"],
        },
    )
    for name, most in BOUNDS.items():
        measured.notes[f"{name} at most {most}"] = "yes" if measured.ratios[name] <= most else "no"
    return measured

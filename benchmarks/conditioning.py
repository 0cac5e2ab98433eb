"""What the condition costs a step of a plan: FLUX.1's widths, 960x720, each way to condition beside no condition.

One double-stream and one single-stream block of random weights stand for FLUX.1's 19 and 38: the cost of a step is
theirs, and both kinds cost the same for each token. They are ComfyUI's own classes with our wrapper around them. All
methods take turns in one process. Of `first_cell_cached` a step counts, and its part of the one pass of the condition
that falls on a step of a plan of 20.

On a CPU the time is the CPU's, summed over threads, which wait without spinning; on a GPU the clock's.
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
ONCE = "condition"
"Case of the single pass of a cached condition."


@dataclass(frozen=True)
class Setting:
    """Sizes of a measurement.

    Args:
        heads: attention heads of 128 channels.
        cell_height: of a 3x3 grid [px].
        cell_width: of a 3x3 grid [px].
        words: text tokens.
    """

    heads: int = 24
    cell_height: int = 240
    cell_width: int = 320
    words: int = 512


def run(repeats: int | None = None, setting: Setting | None = None) -> Benchmark:
    """Measure.

    Args:
        repeats: rounds; each runs every case once.
        setting: other sizes than FLUX.1's, to try the benchmark out.

    Raises:
        LauncherError: the measuring process failed.
    """
    setting = setting or Setting()
    comfyui = find_comfyui()
    status = StatusLine("Conditioning")
    script = Path(__file__).with_name("conditioning_probe.py")
    order = json.dumps({**asdict(setting), "repeats": repeats or REPEATS, "once": ONCE})
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
    raw["first_cell_cached"] = [
        step + once / PLAN_STEPS for step, once in zip(raw["first_cell_cached"], raw[ONCE], strict=True)
    ]
    return Benchmark(
        "conditioning",
        "s",
        raw,
        {
            "full_grid/first_cell": ("full_grid", "first_cell"),
            "first_cell/none": ("first_cell", "none"),
            "first_cell_cached/none": ("first_cell_cached", "none"),
        },
        {
            **{f"memory of {case} [MB]": "not measured" if size is None else size for case, size in memory.items()},
            "cached keys and values of the whole model [MB]": result["kept_megabytes"],
            "tokens": result["tokens"],
            "run on": result["device"],
        },
    )

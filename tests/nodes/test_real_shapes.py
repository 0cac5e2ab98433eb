"""FLUX.1's widths and file layout, with stock loader and sampler, within 10 GB at 960x720."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from launcher.bootstrap import clean_environment

pytestmark = pytest.mark.comfyui
SCRIPT = Path(__file__).with_name("real_shapes.py")


KINDS = {"first_cell": [1, 16, 90, 120], "first_cell_cached": [1, 16, 18, 24]}
"""Condition tokens -> latent of a grid of 960x720, and of one that keeps two steps short (real_shapes.CELLS)."""


@pytest.fixture(scope="module")
def results(comfyui, tmp_path_factory):
    """What the process says of each kind of condition tokens; one process, since the checkpoint has 500 MB."""
    folder = tmp_path_factory.mktemp("real_shapes")
    process = subprocess.run(
        [str(comfyui.python), str(SCRIPT), str(comfyui.folder), str(folder), *KINDS],
        capture_output=True, text=True, cwd=folder, env={**clean_environment(), "CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip
    assert process.returncode == 0, process.stderr[-3000:]
    lines = [json.loads(line) for line in process.stdout.splitlines() if line.startswith("{")]
    return {line["spec"]: line for line in lines}


@pytest.mark.skipif(sys.platform == "win32", reason="the resident size of a process is measured as Unix measures it")
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("tokens", KINDS)
def test_a_planner_of_real_widths(results, tokens):
    result = results[tokens]
    assert result["weight_type"] == "torch.bfloat16"
    assert (result["hidden"], result["heads"]) == (3072, 24)
    # Four weights of each stream of the double block, where q, k and v are one, and linear1 of the single block; three
    # parts of two LoRAs on each fused one.
    assert result["patched_weights"] == 9
    assert result["patches_of_one"] == 6
    assert result["shape"] == KINDS[tokens]
    assert result["finite"]
    assert 0.1 < result["spread"] < 100
    assert result["peak_gb"] < 10

"""Seconds of a plan with the shipped planner: few steps with the first cell as condition, against the released method.

The released method has the whole condition grid in the sequence, and 20 steps. Whole plans go from a first frame and a
prompt to nine frames. Sampling is the transformer's part of them: nearly all of a large model's plan, while the tiny
planner's autoencoder takes about as long as one of its steps.
"""

from __future__ import annotations

import dataclasses
from functools import partial

import numpy as np

from launcher.console import StatusLine
from launcher.paths import ROOT

from .harness import Benchmark, interleave

REPEATS = 5
STEPS = (1, 2, 4, 8)
RELEASED_STEPS = 20
PROMPT = "nine frames of the robot: push the red cube to the left"


def run(repeats: int | None = None, steps: tuple[int, ...] = STEPS) -> Benchmark:
    """Measure.

    Args:
        repeats: timed rounds; each samples every plan once.
        steps: numbers of steps of our plans.
    """
    from training.model.pipeline import PlannerPipeline, open_planner

    status = StatusLine("Plan")
    ours, _ = open_planner(ROOT / "models" / "tiny_planner")
    spec = dataclasses.replace(ours.spec, condition_tokens="full_grid")
    released = PlannerPipeline(ours.transformer, ours.vae, ours.encoders, spec)
    picture = np.random.default_rng(0).integers(0, 255, (1, spec.cell_height, spec.cell_width, 3), dtype=np.uint8)
    plans = {f"{count} step{'s' if count > 1 else ''}": (ours, count) for count in steps}
    reference = f"full grid, {RELEASED_STEPS} steps"
    plans[reference] = released, RELEASED_STEPS
    cases = {name: partial(pipeline.plan, picture, [PROMPT], steps=count) for name, (pipeline, count) in plans.items()}
    cases |= {f"sampling, {name}": sampling(pipeline, picture, count) for name, (pipeline, count) in plans.items()}
    status.update("plans")
    raw = interleave(cases, repeats or REPEATS)
    status.close()
    ratios = {
        f"{part}{name}/released": (f"{part}{name}", f"{part}{reference}")
        for part in ("", "sampling, ")
        for name in plans
        if name != reference
    }
    return Benchmark("plan", "s", raw, ratios, {"steps for execution": ours.spec.execution_steps})


def sampling(pipeline, picture: np.ndarray, steps: int) -> partial:
    """A call that samples a plan, with condition and text computed beforehand."""
    import torch

    from training.model.sampling import draw_noise, sample

    with torch.no_grad():
        condition, text = pipeline.condition(picture), pipeline.encoders([PROMPT])
    noise = draw_noise(pipeline.spec, [0])
    return partial(
        sample, pipeline.transformer, pipeline.in_context, pipeline.spec, noise, condition, *text, steps=steps
    )

"""Plans for requests, several at once and always the same for the same seed."""

import numpy as np

from visual_planner.grid.frame import to_bytes

from ...model.pipeline import PlannerPipeline
from ...model.sampling import draw_noise
from .requests import Asked, Wording, planner_input


def make_plans(
    planner: PlannerPipeline,
    asked: list[Asked],
    mode: str,
    plans: int = 1,
    wording: Wording | None = None,
    batch_size: int = 16,
    seen: np.ndarray | None = None,
    steps: int | None = None,
) -> list[np.ndarray]:
    """Plans (plans, F, h, w, 3) uint8 of each request.

    Args:
        planner: with or without its LoRA.
        asked: the requests.
        mode: text, trajectory or both.
        plans: how many of each.
        wording: how they are put.
        batch_size: plans that are made at once.
        seen: (requests, K, h, w, 3) uint8, the frames that have happened already and stay; only the rest is planned.
        steps: of the sampler; None: the planner's own.
    """
    wording = wording or Wording()
    spec = planner.spec
    inputs = [planner_input(item, mode, spec, wording) for item in asked]
    noise = draw_noise(spec, [item.seed for item in asked], plans)
    pictures = np.repeat(np.stack([picture for picture, _ in inputs]), plans, axis=0)
    prompts = [prompt for _, prompt in inputs for _ in range(plans)]
    kept = None if seen is None else np.repeat(seen, plans, axis=0)
    made = []
    for start in range(0, len(prompts), batch_size):
        part = slice(start, start + batch_size)
        past = None if kept is None else kept[part]
        frames = planner.plan(
            pictures[part], prompts[part], steps=steps, noise=noise[part], guidance=wording.guidance, seen=past
        )
        made.append(to_bytes(frames))
    return list(np.concatenate(made).reshape(len(asked), plans, *made[0].shape[1:]))

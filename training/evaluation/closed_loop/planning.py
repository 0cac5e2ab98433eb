"""Plans for requests, several at once and always the same for the same seed; and which of them is executed."""

import time
from dataclasses import dataclass, replace

import numpy as np

from visual_planner.execution.ranking import is_good
from visual_planner.execution.readout import ReadoutNet
from visual_planner.grid.frame import to_bytes

from ...model.pipeline import PlannerPipeline
from ...model.sampling import draw_noise
from .requests import Asked, Wording, planner_input
from .settings import Settings
from .trial import Judged, rank


@dataclass(frozen=True)
class Choice:
    """Plans for one request and the one that is executed.

    Args:
        judged: the plans, in the order in which they were sampled.
        order: their numbers, the one to execute first.
        rejected: how many were sampled and did not look good enough; None: plans were not rejected.
        seconds: sampling time, in total for all requests and per plan.
    """

    judged: list[Judged]
    order: list[int]
    rejected: int | None = None
    seconds: float = 0.0

    @property
    def best(self) -> Judged:
        """The plan to execute."""
        return self.judged[self.order[0]]


def choose(
    planner: PlannerPipeline,
    asked: list[Asked],
    mode: str,
    net: ReadoutNet,
    settings: Settings,
    wording: Wording | None = None,
    seen: np.ndarray | None = None,
) -> list[Choice]:
    """Plans of each request: the best-looking of `settings.best_of`, sampled again until one looks good.

    There are at most `settings.until_good` rounds, each with the next seed. The first plan that looks good by
    `ranking.is_good` is executed, or the best-looking of its round; if none does, the best-looking of all.

    Args:
        planner: the planner, with or without its LoRA.
        asked: the requests.
        mode: one of the planner's modes.
        net: the read-out.
        settings: `best_of`, `until_good`, `batch_size` and `steps`.
        wording: how the requests are put to the planner.
        seen: (requests, K, h, w, 3) uint8, see `make_plans`.
    """
    choices: list[Choice | None] = [None] * len(asked)
    plans: list[list[np.ndarray]] = [[] for _ in asked]
    waiting, seconds = list(range(len(asked))), 0.0
    for number in range(settings.until_good):
        now = [replace(asked[place], seed=asked[place].seed + number) for place in waiting]
        past, start = None if seen is None else seen[waiting], time.perf_counter()
        made = make_plans(
            planner, now, mode, settings.best_of, wording, settings.batch_size, past, settings.steps or None
        )
        seconds += time.perf_counter() - start
        for place, group in zip(waiting, made, strict=True):
            plans[place].append(group)
            sampled = plans[place][0] if number == 0 else np.concatenate(plans[place])
            choices[place] = _choice(sampled, asked[place], mode, net, settings.until_good > 1)
        waiting = [place for place in waiting if choices[place].rejected == len(choices[place].judged)]
        if not waiting:
            break
    each = seconds / sum(len(choice.judged) for choice in choices)
    return [replace(choice, seconds=each) for choice in choices]


def _choice(plans: np.ndarray, asked: Asked, mode: str, net: ReadoutNet, rejecting: bool) -> Choice:
    judged, order = rank(plans, asked, mode, net)
    if not rejecting:
        return Choice(judged, order)
    good = {number for number in order if is_good(judged[number].score)}
    return Choice(judged, sorted(order, key=lambda number: number not in good), len(order) - len(good))


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
        planner: the planner, with or without its LoRA.
        asked: the requests.
        mode: one of the planner's modes.
        plans: number of plans per request.
        wording: how the requests are put to the planner.
        batch_size: plans that are sampled at once.
        seen: (requests, K, h, w, 3) uint8, the frames that have happened already and stay; only the rest is planned.
        steps: steps of the sampler; None: the planner's own for plans that are executed.
    """
    wording = wording or Wording()
    spec = planner.spec
    steps = spec.execution_steps if steps is None else steps
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

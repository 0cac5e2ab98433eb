"""A plan's frames -> read-out -> keyframes -> simulator -> success; and how good the plan looked before."""

from dataclasses import dataclass, replace

import numpy as np

from visual_planner.checks.diagnostics import Report
from visual_planner.execution.judging import judge
from visual_planner.execution.keyframes import keyframes, on_path
from visual_planner.execution.ranking import Score, compare, order_of
from visual_planner.execution.readout import Reading, ReadoutNet, read_frames
from visual_planner.planner.prompts import parts_of
from worlds.errors import UnreachableError
from worlds.protocol import World

from ..colours import HUES, colour_mask
from .requests import Asked

_LEAST_PX = 8
"An object with fewer pixels in the first frame is not tracked."


@dataclass(frozen=True)
class Judged:
    """A plan before it is executed.

    Args:
        frames: (F, h, w, 3) uint8.
        reading: its reading.
        report: the diagnostics.
        score: for the choice among several.
        objects_left: fraction of its pixels in the first frame that the worst-off object has in the last one.
        followed: the reading with the end effector on the drawn path; the plain reading if none is drawn.
    """

    frames: np.ndarray
    reading: Reading
    report: Report
    score: Score
    objects_left: float
    followed: Reading

    def keys(self, follow_path: bool) -> np.ndarray:
        """Keyframes (F, 4) to execute, the end effector kept on the drawn path or just where the frames show it."""
        return keyframes(self.followed if follow_path else self.reading)


def read_plan(frames: np.ndarray, asked: Asked, net: ReadoutNet) -> Reading:
    """Reading of frames (F, h, w, 3), seen by the request's camera unless the read-out was trained without a view."""
    return read_frames(net, frames, asked.view if net.spec.view is not None else None)


def judge_plan(frames: np.ndarray, asked: Asked, mode: str, net: ReadoutNet) -> Judged:
    """Judge a plan: read-out, diagnostics and score; the drawn path counts in the modes that have one."""
    reading = read_plan(frames, asked, net)
    count, height, width = frames.shape[:3]
    path = asked.places_norm(count) if parts_of(mode).path else None
    report, score = judge(frames, reading, asked.first, None if path is None else path[:, None] * (width, height))
    left = remaining(frames, list(asked.request.colours))
    followed = reading if path is None else on_path(reading, path, asked.view)
    return Judged(frames, reading, report, score, left, followed)


def remaining(frames: np.ndarray, colours: list[str]) -> float:
    """Fraction of its first frame's pixels that the worst-off object still has in the last frame, 1 if all are there.

    Args:
        frames: (F, h, w, 3) uint8.
        colours: colours of the scene's objects.
    """
    shares = [1.0]
    for colour in (colour for colour in colours if colour in HUES):
        before, after = (int(colour_mask(frames[place], colour).sum()) for place in (0, -1))
        if before >= _LEAST_PX:
            shares.append(min(1.0, after / before))
    return min(shares)


def rank(plans: np.ndarray, asked: Asked, mode: str, net: ReadoutNet) -> tuple[list[Judged], list[int]]:
    """The plans (N, F, h, w, 3), judged, and their numbers, best first."""
    judged = [judge_plan(frames, asked, mode, net) for frames in plans]
    scores = compare([plan.score for plan in judged], [plan.reading for plan in judged])
    return [replace(plan, score=score) for plan, score in zip(judged, scores, strict=True)], order_of(scores)


def attempt(keys: np.ndarray, asked: Asked, world: World) -> tuple[bool, tuple[str, ...]]:
    """Whether keyframes (F, 4) fulfil the request from the scene's start, and which disturbances happened.

    The request is not fulfilled if the arm cannot reach one of them.
    """
    rollout = None
    try:
        rollout = world.start(asked.request, len(asked.truth), asked.spacing)
        rollout.carry_out(keys, pictures=False)
    except UnreachableError:
        return False, () if rollout is None else rollout.happened
    return bool(rollout.success), rollout.happened


def carry_out(keys: np.ndarray, asked: Asked, world: World) -> bool:
    """Whether keyframes (F, 4) fulfil the request; `attempt` without the disturbances."""
    return attempt(keys, asked, world)[0]


def execute_plan(plan: Judged, asked: Asked, world: World, follow_path: bool = False) -> bool:
    """Whether a plan fulfils the request, the gripper kept on the drawn path or just where the frames show it."""
    return carry_out(plan.keys(follow_path), asked, world)


def execute_frames(frames: np.ndarray, asked: Asked, net: ReadoutNet, world: World, follow_path: bool = False) -> bool:
    """Whether frames (F, h, w, 3) of any origin fulfil the request; with the gripper on the drawn path if asked."""
    reading = read_plan(frames, asked, net)
    if follow_path:
        reading = on_path(reading, asked.places_norm(len(frames)), asked.view)
    return carry_out(keyframes(reading), asked, world)

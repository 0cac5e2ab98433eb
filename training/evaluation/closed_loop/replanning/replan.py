"""Re-planning: execute the first frames of a plan, look, plan again; after some moves, or when the world departs."""

from dataclasses import dataclass, replace

import numpy as np

from visual_planner.execution.readout import ReadoutNet
from worlds.errors import UnreachableError
from worlds.protocol import World

from ....errors import TrainingError
from ....model.pipeline import PlannerPipeline
from ...colours import HUES, centroid, tracked
from ..planning import choose
from ..requests import Asked
from ..settings import START, Settings
from ..trial import Judged, read_plan

DEPARTED_SIDES = 0.08
"""Distance between an object's colour as seen and as planned that triggers a new plan [sides of the picture].

It and `settings.DEPARTED_M` are from 16 plans of the tiny planner (8 scenes from seed 9600000, modes text and both, 2
steps). At their worst moment, undisturbed, 15 were off by 0.004 to 0.070 sides and all 16 by 0.005 to 0.031 m (in one
plan an object changed its colour); with the object moved all by 0.094 or more, with a slipped grasp by 0.137 or more.
"""
RESTING_SIDES, LEFT_ALONE_SIDES = 0.045, 0.02
"""The same distance for an object that the plan leaves where it is, and how far its place may vary in such a plan.

Such a place is planned more exactly: in 8 plans (reach, trajectory, from seed 9600500) it was off by at most 0.035
where the object had not been moved, and by 0.053 to 0.109 where it had.
"""
NEAR_SIDES = (0.15, 0.35)
"""Up to the first distance from an object's planned place a path is about that object, from the second on it is not."""


@dataclass(frozen=True)
class Departure:
    """How far a moment is from its plan, judged by the pictures.

    Args:
        tool_m: distance of the end effector [m], read off both pictures by the same read-out.
        planned: where the plan has the objects and landmarks that both pictures show (N, 2), in sides of the picture.
        seen: where they are seen (N, 2).
        at_rest: whether the plan has left them where its first frame shows them (N,).
    """

    tool_m: float
    planned: np.ndarray
    seen: np.ndarray
    at_rest: np.ndarray

    @property
    def objects(self) -> np.ndarray:
        """Distance of each object (N,), in sides of the picture."""
        return np.linalg.norm(self.seen - self.planned, axis=-1)

    @property
    def displaced(self) -> np.ndarray:
        """Whether each object is elsewhere than the plan has it (N,)."""
        return self.objects > np.where(self.at_rest, RESTING_SIDES, DEPARTED_SIDES)

    def beyond(self, tool_m: float) -> bool:
        """Whether it is so far off that the plan is no longer valid."""
        return self.tool_m > tool_m or bool(self.displaced.any())

    def bend(self, path: np.ndarray) -> np.ndarray:
        """A path (P, 2), in sides of the picture, moved along with the objects that are not where they were planned.

        What the path does near an object's planned place it does near the seen one; further away it stays.
        """
        bent = path.copy()
        for place, now in zip(self.planned[self.displaced], self.seen[self.displaced], strict=True):
            near = np.interp(np.linalg.norm(path - place, axis=-1), NEAR_SIDES, (1.0, 0.0))
            bent += near[:, None] * (now - place)
        return bent


def departure(planned: np.ndarray, seen: np.ndarray, asked: Asked, net: ReadoutNet) -> Departure:
    """How far the last of the frames seen is from the last of the frames planned.

    Args:
        planned: frames of the plan up to this moment (K, h, w, 3) uint8.
        seen: what the camera saw at them (K, h, w, 3) uint8.
        asked: the request: the camera, and the colours of its objects.
        net: the read-out.
    """
    places = [read_plan(frames, asked, net).positions_m[-1] for frames in (planned, seen)]
    colours = [colour for colour in asked.request.colours if colour in HUES]
    looked_at = planned[0], planned[-1], seen[-1]
    found = [[centroid(frame, colour) for frame in looked_at] for colour in colours]
    found += [tracked(looked_at, landmark) for landmark in asked.request.landmarks]
    known = np.array([three for three in found if all(place is not None for place in three)]).reshape(-1, 3, 2)
    first, then, now = np.moveaxis(known / planned.shape[1], 1, 0)
    at_rest = np.linalg.norm(then - first, axis=-1) < LEFT_ALONE_SIDES
    return Departure(float(np.linalg.norm(places[0] - places[1])), then, now, at_rest)


@dataclass
class Monitor:
    """Compares what is seen with a plan, keyframe by keyframe: a `worlds.protocol.Watch`.

    Args:
        planned: frames of the plan (F, h, w, 3) uint8.
        asked: the request as it was planned for.
        net: the read-out.
        limit_m: see `Settings.departed_m`.
        seen: pictures of the plan's frames so far; more are added.
        apart: how far the last of them is from the plan; None before the first.
    """

    planned: np.ndarray
    asked: Asked
    net: ReadoutNet
    limit_m: float
    seen: list[np.ndarray]
    apart: Departure | None = None

    @property
    def departed(self) -> bool:
        """Whether the last picture is too far from the plan."""
        return self.apart is not None and self.apart.beyond(self.limit_m)

    def __call__(self, number: int, picture: np.ndarray) -> bool:
        """Whether to stop at a keyframe."""
        self.seen = [*self.seen, picture]
        self.apart = departure(self.planned[: len(self.seen)], np.stack(self.seen), self.asked, self.net)
        return self.departed


def replan_when_departed(
    asked: Asked, first: Judged, planner: PlannerPipeline, mode: str, net: ReadoutNet, world: World, settings: Settings
) -> dict:
    """`success` of a request whose plans serve as monitors of their own execution, and `ends`, how each plan ended.

    After every keyframe the picture is compared with the plan's frame. If they are too far apart, a new plan is made
    as `settings.replan_from` says, at most `settings.replans` times; the last plan is executed to its end. A plan ends
    with: departed, end, success or steps (in worlds that end by themselves), or unreachable.

    Args:
        asked: the request.
        first: its first plan.
        planner: makes the others.
        mode: one of the planner's modes.
        net: the read-out.
        world: the open world.
        settings: `departed_m`, `replans`, `replan_from`, `follow_path`, and those that `choose` needs.
    """
    best, now, moves, ends = first, asked, len(first.frames) - 1, []
    seen, from_start = [asked.first], settings.replan_from == START
    rollout = world.start(asked.request, moves + 1, asked.spacing)
    while True:
        monitor = Monitor(best.frames, now, net, settings.departed_m, seen)
        keys = best.keys(settings.follow_path)[len(seen) - 1 :]
        try:
            done = rollout.carry_out(keys, pictures=False, watch=monitor if len(ends) < settings.replans else None)
        except UnreachableError:
            ends.append("unreachable")
            break
        if rollout.over:
            ends.append("success" if rollout.success else "steps")
            break
        if not monitor.departed or (from_start and len(monitor.seen) > moves):
            ends.append("end")
            break
        ends.append("departed")
        if from_start:
            seen = monitor.seen
        else:
            now, seen = _seen_later(now, monitor, done.tool_m[len(monitor.seen) - 1]), monitor.seen[-1:]
        again, past = replace(now, seed=asked.seed + len(ends)), np.stack(seen)[None] if from_start else None
        best = choose(planner, [again], mode, net, settings, seen=past)[0].best
    return {"success": bool(rollout.success), "ends": ends}


def _seen_later(asked: Asked, monitor: Monitor, tool_m: np.ndarray) -> Asked:
    """The request from the last picture on; the rest of its path begins at the end effector (3,) [m]."""
    picture = monitor.seen[-1]
    height, width = picture.shape[:2]
    moves = len(asked.truth) - 1
    tool_px = asked.view.see(tool_m)[:2] * (width, height)
    return asked.later(picture, min(len(monitor.seen) - 1, moves - 1) / moves, tool_px, monitor.apart.bend)


def replan(
    asked: Asked, planner: PlannerPipeline, mode: str, net: ReadoutNet, world: World, settings: Settings
) -> bool:
    """Whether the request succeeds if the rest is re-planned after every few frames.

    From the start: every plan covers the whole task, and what has happened stays in its frames as the camera saw it, so
    only the rest is planned. From this moment: the current picture is the new plan's first frame, and if a path is
    drawn, only the rest of it is; the first plan's rhythm is kept: after `settings.replan` of its moves there is a new
    plan for the rest. The last plan is executed to its end; a plan that the arm cannot follow ends the attempt.

    Args:
        asked: the request.
        planner: makes the plans.
        mode: one of the planner's modes.
        net: the read-out.
        world: a table with pictures of the planner's frame size.
        settings: `replan`, the moves between plans; `replans`, further plans at most (0: as many as there is time for);
            `replan_from`, `follow_path`, and those that `choose` needs.

    Raises:
        TrainingError: `replan` is not between 1 and the moves of a plan.
    """
    every, from_start = settings.replan, settings.replan_from == START
    moves = planner.spec.layout.frames - 1
    if not 1 <= every <= moves:
        raise TrainingError(f"--replan must be 1 to {moves} frames, got {every}")
    rollout = world.start(asked.request, moves + 1, asked.spacing)
    now, seen = asked, [asked.first]
    for number, passed in enumerate(range(0, moves, every)):
        last = passed + every >= moves or number == (settings.replans or moves)
        past = np.stack(seen)[None] if from_start else None
        best = choose(planner, [now], mode, net, settings, seen=past)[0].best
        keys = best.keys(settings.follow_path)
        if from_start:
            part = keys[passed:] if last else keys[passed : passed + every + 1]
        else:
            part = keys if last else keys[: _moves_to_make(every, passed, moves) + 1]
        try:
            done = rollout.carry_out(part)
        except UnreachableError:
            break
        if rollout.over or last:
            break
        seen += list(done.frames[1:])
        if not from_start:
            height, width = asked.first.shape[:2]
            tool_px = asked.view.see(done.tool_m[-1])[:2] * (width, height)
            now = asked.later(seen[-1], (passed + every) / moves, tool_px)
    return bool(rollout.success)


def _moves_to_make(every: int, passed: int, moves: int) -> int:
    """Moves of the running plan that equal `every` moves of the first: a later plan covers less per move."""
    return max(1, round(every * moves / (moves - passed)))

"""A third world, made by the steps of docs/maintaining/add_a_world.md: a dot on a square table seen from above."""

import numpy as np

from visual_planner.execution.camera import View
from visual_planner.execution.keyframe_choice import choose_by_shape
from worlds.errors import UnreachableError, WorldError
from worlds.protocol import USUAL_VIEW, Demonstration, Executed, Request, Rollout, World, checked_keyframes

_STEP_M, _STEPS = 0.05, 200
_SIDES = {"left": 0.0, "right": 1.0}


class ToyWorld(World):
    """A table of 1 m; the dot is pushed to its left or right edge. Success counts at any step."""

    name = "toy"
    title = "the toy world's dot"
    tasks = tuple(_SIDES)
    cameras = ("above", "mirror")
    wordings = ("plain",)
    scenes = 4
    replans_when_stalled = True
    needs_eyes = ("left",)

    def draw(self, seed, task="", wordings="", viewpoint=USUAL_VIEW):
        if viewpoint.jitter_m or viewpoint.turn_deg:
            raise WorldError("the toy world's cameras cannot be moved")
        task = self.check("task", task) if task else self.tasks[seed % 2]
        camera, _ = self.check("camera", viewpoint.camera), self.check("wordings", wordings)
        across = np.array([0.5 if camera == "above" else -0.5, 0.0, 0.0])
        along, forward = np.array([0.0, 0.5, 0.0]), np.array([0.0, 0.0, -1.0])
        view = View((0.5, 0.5, 2.0), np.stack([across, along, forward - (across + along) / 2], axis=1))
        start = np.random.default_rng(seed).uniform(0.3, 0.7, 2)
        return Request(seed, task, f"push the dot to the {task}", "a dot on a table", camera, view, (), tuple(start))

    def first_frame(self, request):
        return self.picture(request, np.array([*request.own, 0.1]))

    def demonstrate(self, request, frames=9, keyframes=""):
        start, end = np.array([*request.own, 0.1]), np.array([_SIDES[request.task], request.own[1], 0.1])
        path = np.linspace(start, end, 40) + np.sin(np.linspace(0, np.pi, 40))[:, None] * (0, 0, 0.2)
        even = np.linspace(0, 39, frames).round().astype(int)
        chosen = choose_by_shape(path, frames) if (keyframes or self.keyframes) == "shape" else even
        pixels = request.view.see(path)[:, :2] * self.size
        numbers, cells = np.unique(chosen, return_index=True)
        times = np.interp(np.arange(40), numbers, cells / (frames - 1))
        shown = np.stack([self.picture(request, path[moment]) for moment in chosen])
        keys = np.column_stack([path[chosen], np.zeros(frames)])
        return Demonstration(shown, keys, np.column_stack([pixels, times]), True)

    def start(self, request, frames=9, keyframes=""):
        return ToyRollout(self, request)

    def picture(self, request, place_m):
        """The table's colour depends on the seed; the dot is red."""
        picture = np.full((self.size, self.size, 3), 80 + request.seed % 100, np.uint8)
        u, v = (np.clip(request.view.see(place_m)[:2], 0, 0.999) * self.size).astype(int)
        picture[max(v - 2, 0) : v + 3, max(u - 2, 0) : u + 3] = (230, 20, 20)
        return picture


class ToyRollout(Rollout):
    """Moves the dot by at most 5 cm a step."""

    def __init__(self, world, request):
        self.world, self.request, self.steps = world, request, 0
        self.place, self.done = np.array([*request.own, 0.1]), False

    def carry_out(self, keyframes, until_stalled=False, pictures=True, watch=None):
        plan, start = checked_keyframes(keyframes), self.place.copy()
        if plan[:, 2].max() > 1.5:
            raise UnreachableError(f"the dot cannot get {plan[:, 2].max():.1f} m high")
        limited = np.column_stack([np.clip(plan[:, :2], 0, 1), plan[:, 2:]])
        frames, places, reached, stalled = [self.frame()] if pictures else [], [start], 0, False
        for number, target in enumerate(limited[1:, :3], start=1):
            before = self.place.copy()
            while not self.over and np.linalg.norm(target - self.place) > 1e-9:
                way = target - self.place
                self.place = self.place + way * min(1.0, _STEP_M / np.linalg.norm(way))
                self.steps += 1
                side = _SIDES[self.request.task]
                self.done = self.done or abs(self.place[0] - side) < 0.05
            reached = number if not self.over else reached
            places.append(self.place.copy())
            if pictures:
                frames.append(self.frame())
            if watch is not None and not self.over and watch(number, self.frame()):
                break
            if until_stalled and np.linalg.norm(self.place - before) < 1e-3:
                stalled = True
                break
        places += [self.place.copy()] * (len(plan) - len(places))
        frames += frames[-1:] * (len(plan) - len(frames))
        clamped = int((np.abs(limited - plan).max(axis=1) > 1e-9).sum())
        error = float(np.linalg.norm(plan[0, :3] - start))
        return Executed(np.array(frames), np.array(places), reached, clamped, stalled, error)

    @property
    def success(self):
        return self.done

    @property
    def over(self):
        return self.done or self.steps >= _STEPS

    def frame(self):
        return self.world.picture(self.request, self.place)

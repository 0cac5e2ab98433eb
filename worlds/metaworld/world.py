"""Meta-World as a world: scenes by AVDC's draws, three cameras, success at any of 500 steps."""

from collections import OrderedDict
from collections.abc import Sequence
from types import MappingProxyType

import numpy as np

from visual_planner.execution.camera import View

from ..errors import WorldError
from ..protocol import (
    USUAL_VIEW,
    Demonstration,
    Executed,
    Request,
    Rollout,
    Viewpoint,
    Watch,
    World,
    checked_keyframes,
)
from .camera import CAMERAS, Pictures, project
from .disturbances import KINDS, Interference
from .execution import PATIENCE, Executor
from .motion import Motion, demonstrate, show
from .scene import Scenes
from .tasks import NEED_EYES, TASKS, caption, instruction

WORKSPACE_M = ((-0.6, 0.6), (0.2, 1.1), (-0.05, 0.7))
"""Where the hand may be sent (x, y, z) [m]; the environments enforce somewhat narrower bounds of their own."""
_KEPT_MOTIONS = 4


class MetaWorld(World):
    """The eleven tasks of AVDC's table. See `World`."""

    name = "metaworld"
    title = "Meta-World's simulated Sawyer arm"
    tasks = TASKS
    cameras = CAMERAS
    wordings = ("benchmark", "all")
    looks = ("plain", "shadows")
    seeds = 0
    scenes = 25
    replans_when_stalled = True
    readout_config = "metaworld_readout.yaml"
    readout = "models/metaworld_readout"
    planner = "models/metaworld_planner"
    command = "worlds.metaworld.__main__"
    keyframes = "shape"
    needs_eyes = NEED_EYES
    disturbances = MappingProxyType({**KINDS, "sensor_noise": TASKS})

    def __init__(self, size: int = 64, look: str = "") -> None:
        super().__init__(size, look)
        self._scenes = Scenes()
        self._pictures: dict[str, Pictures] = {}
        self._motions: OrderedDict[tuple[str, int], Motion] = OrderedDict()
        self._choices: dict[tuple[str, int, int], np.ndarray] = {}

    @classmethod
    def runs(
        cls, first_seed: int, scenes: int, tasks: Sequence[str], cameras: Sequence[str]
    ) -> list[tuple[int, str, str]]:
        """See `World.runs`: AVDC's protocol has `scenes` seeds for every task, each seen by every camera."""
        seeds = range(first_seed, first_seed + scenes)
        return [(seed, task, camera) for seed in seeds for task in tasks for camera in cameras]

    def draw(self, seed: int, task: str = "", wordings: str = "", viewpoint: Viewpoint = USUAL_VIEW) -> Request:
        """See `World.draw`."""
        if viewpoint.jitter_m or viewpoint.turn_deg:
            raise WorldError("the cameras of world metaworld stand where the benchmark has them: jitter and turn are 0")
        if not isinstance(seed, int) or not 0 <= seed < 2**32:
            raise WorldError(f"seed must be a whole number from 0 to 2^32 - 1, got {seed!r}")
        camera = self.check("camera", viewpoint.camera)
        task = self.check("task", task) if task else TASKS[int(np.random.default_rng(seed).integers(len(TASKS)))]
        drawn = self.check("wordings", wordings) == "all"
        words = instruction(task, np.random.default_rng((seed, TASKS.index(task))) if drawn else None)
        self._scenes.reset(task, seed)
        view = View(**self._look_at(task).view(camera))
        return Request(seed, task, words, caption(task), camera, view)

    def first_frame(self, request: Request) -> np.ndarray:
        """See `World.first_frame`."""
        self._scenes.reset(request.task, request.seed)
        picture = self._look_at(request.task).take(request.camera)
        return picture if request.disturbance is None else request.disturbance.seen(picture, 0)

    def demonstrate(self, request: Request, frames: int = 9, keyframes: str = "") -> Demonstration:
        """See `World.demonstrate`."""
        motion = self._motion(request)
        last = len(motion) - 1
        by_shape = (keyframes or self.keyframes) == "shape"
        chosen = self._choice(request, frames) if by_shape else np.linspace(0, last, frames).round().astype(int)
        env, _ = self._scenes.reset(request.task, request.seed)
        pictures, shown = self._look_at(request.task), []
        for moment in chosen:
            show(env, motion.states[moment])
            shown.append(pictures.take(request.camera))
        keys = np.column_stack([motion.hand_m[chosen], motion.closed(chosen)])
        numbers, cells = np.unique(chosen, return_index=True)
        times = np.interp(np.arange(last + 1), numbers, cells / max(frames - 1, 1))
        path = np.column_stack([project(pictures.view(request.camera), motion.hand_m, self.size), times])
        return Demonstration(np.stack(shown), keys, path, motion.success is not None)

    def start(self, request: Request, frames: int = 9, keyframes: str = "") -> "MetaWorldRollout":
        """See `World.start`; the executor goes from place to place, so the spacing of the frames does not matter."""
        pictures = self._look_at(request.task)  # before the reset, since its creation resets the environment
        env, observation = self._scenes.reset(request.task, request.seed)
        return MetaWorldRollout(env, observation, pictures, request)

    def close(self) -> None:
        """See `World.close`."""
        for pictures in self._pictures.values():
            pictures.close()
        self._pictures.clear()

    def _look_at(self, task: str) -> Pictures:
        if task not in self._pictures:
            env, _ = self._scenes.reset(task, 0)
            self._pictures[task] = Pictures(env, self.size, self.look == "shadows")
        return self._pictures[task]

    def _motion(self, request: Request) -> Motion:
        """The script's motion, cached for the scene's other cameras."""
        key = (request.task, request.seed)
        if key not in self._motions:
            self._motions[key] = demonstrate(self._scenes, *key)
            if len(self._motions) > _KEPT_MOTIONS:
                self._motions.popitem(last=False)
                self._choices.clear()
        return self._motions[key]

    def _choice(self, request: Request, frames: int) -> np.ndarray:
        """Moments of that motion, chosen by shape and cached as well."""
        key = (request.task, request.seed, frames)
        if key not in self._choices:
            self._choices[key] = self._motion(request).choose(frames)
        return self._choices[key]


class MetaWorldRollout(Rollout):
    """One attempt: 500 steps for all plans together. Keyframes outside of the workspace are moved to its edge."""

    def __init__(self, env, observation: np.ndarray, pictures: Pictures, request: Request) -> None:
        self._disturbance = request.disturbance
        self._interference = None if self._disturbance is None else Interference(env, request.task, self._disturbance)
        self._executor = Executor(env, observation, disturb=self._interference)
        self._pictures, self._camera = pictures, request.camera

    def carry_out(
        self, keyframes: np.ndarray, until_stalled: bool = False, pictures: bool = True, watch: Watch | None = None
    ) -> Executed:
        """See `Rollout.carry_out`; `own` of the result is the `Outcome`."""
        wanted = checked_keyframes(keyframes)
        low, high = np.array(WORKSPACE_M).T
        plan = np.column_stack([np.clip(wanted[:, :3], low, high), wanted[:, 3] < 0.5])  # the opening: 1 open
        clamped = int((np.abs(plan[:, :3] - wanted[:, :3]).max(axis=1) > 1e-9).sum())
        start = self._executor.hand_m
        frames, places = [self.frame()] if pictures else [], [start]

        def done(number: int) -> bool:
            places.append(self._executor.hand_m)
            if pictures:
                frames.append(self.frame())
            return watch is not None and watch(number, frames[-1] if pictures else self.frame())

        outcome = self._executor.run(plan, patience=PATIENCE if until_stalled else None, done=done)
        last = self.frame() if pictures and len(places) < len(plan) else None
        while len(places) < len(plan):
            places.append(self._executor.hand_m)
            frames += [] if last is None else [last]
        error = float(np.linalg.norm(wanted[0, :3] - start))
        return Executed(
            np.array(frames), np.array(places), outcome.reached, clamped, outcome.stalled, error, outcome
        )  # fmt: skip

    @property
    def success(self) -> bool:
        """See `Rollout.success`."""
        return self._executor.success

    @property
    def over(self) -> bool:
        """See `Rollout.over`."""
        return self._executor.over

    @property
    def happened(self) -> tuple[str, ...]:
        """See `Rollout.happened`."""
        return () if self._interference is None else tuple(self._interference.happened)

    def frame(self) -> np.ndarray:
        """See `Rollout.frame`."""
        picture = self._pictures.take(self._camera)
        return picture if self._disturbance is None else self._disturbance.seen(picture, self._executor.steps)

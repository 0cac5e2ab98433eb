"""The Kinova Jaco's table of `simulation` as a world."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import MappingProxyType

import numpy as np

from simulation import world as table
from simulation.camera import FRONT, MAX_JITTER_M, MAX_TURN_DEG
from simulation.disturbances import KINDS, Event
from simulation.episode import Request as Drawn
from simulation.episode import demonstration_of, draw_request, first_frame
from simulation.errors import SimulationError
from simulation.errors import UnreachableError as ArmUnreachableError
from simulation.execution import Rollout as Attempt
from simulation.execution import check_keyframes
from simulation.tasks import GRASPED, TASKS
from visual_planner.execution.camera import View

from .errors import UnreachableError, WorldError
from .protocol import (
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


@contextmanager
def _own_errors() -> Iterator[None]:
    """Turn the simulation's errors into those of a world."""
    try:
        yield
    except ArmUnreachableError as error:
        raise UnreachableError(str(error)) from error
    except SimulationError as error:
        raise WorldError(str(error)) from error


def request_of(drawn: Drawn) -> Request:
    """Turn a request of the simulation into one of a world."""
    view = View(drawn.camera.eye, drawn.camera.rays(1, 1))
    colours = tuple(item.color for item in drawn.scene.objects)
    held = drawn.scene.objects[drawn.task.slot].color if drawn.task.name in GRASPED else ""
    return Request(
        drawn.seed, drawn.task.name, drawn.instruction, drawn.scene.caption, "front", view, colours, drawn, held=held,
        landmarks=("plate",),
    )  # fmt: skip


class JacoTable(World):
    """Three objects and a plate; reach, push, pick and place. See `World`."""

    name = "jaco"
    title = "the simulated Jaco arm"
    tasks = TASKS
    cameras = ("front",)
    wordings = ("held_out", "train", "all")
    seeds = 9_000_000
    max_jitter_m = MAX_JITTER_M
    max_turn_deg = MAX_TURN_DEG
    readout_config = "readout.yaml"
    readout = "models/readout"
    planner = "models/tiny_planner"
    command = "simulation.__main__"
    disturbances = MappingProxyType({**KINDS, "sensor_noise": TASKS})

    def __init__(self, size: int = 64, look: str = "") -> None:
        super().__init__(size, look)
        with _own_errors():
            self.table = table.World(size)

    def draw(self, seed: int, task: str = "", wordings: str = "", viewpoint: Viewpoint = USUAL_VIEW) -> Request:
        """See `World.draw`."""
        self.check("camera", viewpoint.camera)
        camera = FRONT.turned(viewpoint.turn_deg)
        tasks = (self.check("task", task),) if task else TASKS
        with _own_errors():
            return request_of(
                draw_request(seed, tasks, self.check("wordings", wordings), viewpoint.jitter_m, camera)
            )  # fmt: skip

    def first_frame(self, request: Request) -> np.ndarray:
        """See `World.first_frame`."""
        with _own_errors():
            picture = first_frame(self.table, request.own)
        return picture if request.disturbance is None else request.disturbance.seen(picture, 0)

    def demonstrate(self, request: Request, frames: int = 9, keyframes: str = "") -> Demonstration:
        """See `World.demonstrate`."""
        with _own_errors():
            episode = demonstration_of(self.table, request.own, frames, keyframes=keyframes or self.keyframes)
        keys = np.concatenate([episode.tool_m, episode.gripper[:, None]], axis=1)
        path = np.asarray(episode.record("")["path_px"], float)
        return Demonstration(episode.frames, keys, path, episode.success)

    def start(self, request: Request, frames: int = 9, keyframes: str = "") -> "JacoRollout":
        """See `World.start`."""
        return JacoRollout(self.table, request, frames, keyframes or self.keyframes)

    def close(self) -> None:
        """See `World.close`."""
        self.table.close()


class JacoRollout(Rollout):
    """One attempt at the table. Keyframes outside of the workspace are moved to its edge."""

    def __init__(self, world: table.World, request: Request, frames: int, keyframes: str) -> None:
        own: Drawn = request.own
        self._disturbance = request.disturbance
        drawn = {kind: self._disturbance.drawn(kind) for kind in KINDS} if self._disturbance else {}
        events = {kind: Event(**vars(values)) for kind, values in drawn.items() if values is not None}
        with _own_errors():
            self.attempt = Attempt(
                world, own.scene, own.task, own.camera, plan_frames=frames, spacing=keyframes, events=events
            )  # fmt: skip

    def carry_out(
        self, keyframes: np.ndarray, until_stalled: bool = False, pictures: bool = True, watch: Watch | None = None
    ) -> Executed:
        """See `Rollout.carry_out`; `own` of the result is the trace and the joint trajectory."""
        if until_stalled:
            raise WorldError("the Jaco table's arm follows joint trajectories to their end and cannot stall")
        wanted, before = checked_keyframes(keyframes), self.attempt.steps

        def stop(number: int) -> bool:
            return watch(number, self.frame())

        with _own_errors():
            plan, clamped = check_keyframes(wanted, frames=None)
            start_error = float(np.linalg.norm(wanted[0, :3] - self.attempt.world.tool()))
            trace, frames, actions = self.attempt.carry_out(plan, None if watch is None else stop)
        taken = len(trace.tool_m) - 1
        done = [min(int(step), taken) for step in actions.keyframe_steps]
        reached = max(number for number, step in enumerate(actions.keyframe_steps) if step <= taken)
        frames = [self._seen(frame, before + step) for frame, step in zip(frames, done, strict=False)]
        frames += frames[-1:] * (len(plan) - len(frames))
        return Executed(
            np.array(frames), trace.tool_m[done], reached, clamped, False, start_error, (trace, actions)
        )  # fmt: skip

    @property
    def success(self) -> bool:
        """See `Rollout.success`."""
        return self.attempt.success

    @property
    def over(self) -> bool:
        """See `Rollout.over`: on this table only the state at the end counts."""
        return False

    @property
    def happened(self) -> tuple[str, ...]:
        """See `Rollout.happened`."""
        return () if self.attempt.interference is None else tuple(self.attempt.interference.happened)

    def frame(self) -> np.ndarray:
        """See `Rollout.frame`."""
        return self._seen(self.attempt.world.frame(), self.attempt.steps)

    def _seen(self, picture: np.ndarray, step: int) -> np.ndarray:
        return picture if self._disturbance is None else self._disturbance.seen(picture, step)

"""What the rest of the project requires of a world: a simulator or a robot in which plans are executed.

A world is opened for frames of one size. It draws a request from a seed (`draw`), shows how its own script does it
(`demonstrate`), and executes plans (`start`, then `Rollout.carry_out`). Closed loop, training of the read-out, studies
and nodes use only these classes; `registry` has the worlds by name.

Everywhere: metres in the robot's frame; a gripper is 0 open and 1 closed; pictures are square, uint8, RGB.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np

from visual_planner.execution.camera import View
from visual_planner.execution.keyframe_choice import RULES

from .disturbances import Disturbance, check_kinds
from .errors import WorldError

Watch = Callable[[int, np.ndarray], bool]
"""Called with the number of a completed keyframe and the picture (size, size, 3) of that moment; True: stop here."""


@dataclass(frozen=True)
class Viewpoint:
    """The viewpoint from which a scene is seen.

    Args:
        camera: name; empty: the world's first.
        jitter_m: standard deviation of a random offset of the camera [m].
        turn_deg: angle by which it is moved around the scene before the jitter [degrees].
    """

    camera: str = ""
    jitter_m: float = 0.0
    turn_deg: float = 0.0


USUAL_VIEW = Viewpoint()


@dataclass(frozen=True)
class Request:
    """One scene and its task: the planner's input without the picture.

    Args:
        seed: seed of the scene.
        task: one of the world's tasks.
        instruction: the task in words.
        caption: what can be seen, without the task.
        camera: name of the camera that sees it.
        view: the same camera as rays of a square picture.
        colours: of the objects that checks may track, by the names of `training.evaluation.colours`; may be empty.
        own: what the world itself needs to set the scene up again.
        disturbance: what goes wrong in it, see `World.disturbed`; None: nothing.
        held: the colour among them of the object that the gripper holds in this task; empty: none, or unknown.
        landmarks: what else checks may track, by such names: things that the arm leaves where they are.
    """

    seed: int
    task: str
    instruction: str
    caption: str
    camera: str
    view: View
    colours: tuple[str, ...] = ()
    own: object = None
    disturbance: Disturbance | None = None
    held: str = ""
    landmarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Demonstration:
    """How the world's script does it.

    Args:
        frames: pictures (F, size, size, 3); the first shows the scene before anything moves.
        keyframes: end effector [m] and gripper at the frames (F, 4).
        path_px: end effector (N, 3): x, y [px] and the plan's time t, which is k / (F - 1) at frame k.
        success: whether the task was done. A scene that the script cannot solve stays in every count.
    """

    frames: np.ndarray
    keyframes: np.ndarray
    path_px: np.ndarray
    success: bool


@dataclass(frozen=True)
class Executed:
    """Outcome of executing keyframes.

    Args:
        frames: pictures (F, size, size, 3) when each keyframe was completed, the last one repeated if the attempt ended
            early; (0,) if none were wanted.
        tool_m: end effector at these moments (F, 3).
        reached: number of the last keyframe that was completed.
        clamped: how many keyframes lay outside the workspace and were moved to its edge.
        stalled: whether the execution stopped because the end effector no longer moved.
        start_error_m: distance of the first keyframe from where the end effector really was.
        own: further results of the world itself, such as the joints' trajectory.
    """

    frames: np.ndarray
    tool_m: np.ndarray
    reached: int
    clamped: int
    stalled: bool
    start_error_m: float
    own: object = None

    def tracking_error_m(self, keyframes: np.ndarray) -> float:
        """Mean distance of the end effector from the keyframes (F, 4), all but the first."""
        return float(np.linalg.norm(self.tool_m[1:] - np.asarray(keyframes, float)[1:, :3], axis=-1).mean())


class Rollout(ABC):
    """One attempt at a request, from its start: any number of plans, one after the other."""

    @abstractmethod
    def carry_out(
        self, keyframes: np.ndarray, until_stalled: bool = False, pictures: bool = True, watch: Watch | None = None
    ) -> Executed:
        """Execute keyframes (F, 4), F >= 2; the arm's actual place replaces the first.

        Args:
            keyframes: places [m] and gripper.
            until_stalled: stop when the world's rule says that the arm is stuck or done, so that one can plan again.
            pictures: take pictures. Physics must be the same without them.
            watch: asked after each keyframe but the first whether to stop there; always gets a picture.

        Raises:
            WorldError: the keyframes are not such numbers.
            UnreachableError: the arm cannot reach one of them.
        """

    @property
    @abstractmethod
    def success(self) -> bool:
        """Whether the task is done, judged by everything that has happened so far."""

    @property
    @abstractmethod
    def over(self) -> bool:
        """Whether the result is final: no steps are left, or success counts at any time and has been reached."""

    @abstractmethod
    def frame(self) -> np.ndarray:
        """Picture (size, size, 3) of the current moment."""

    @property
    def happened(self) -> tuple[str, ...]:
        """Kinds of disturbance that have happened so far; those of pictures are not among them."""
        return ()


class World(ABC):
    """An open world. One rollout at a time: `start`, `draw` and `demonstrate` end the one before.

    Args:
        size: side of its frames [px].
        look: one of `looks`.

    Attributes:
        name: its name in commands.
        title: name of its arm on pages and model cards.
        tasks: names.
        cameras: names, the usual one first.
        wordings: sets of phrasings, the usual one first.
        looks: ways of rendering, the usual one first.
        seeds: seeds from which evaluation draws its scenes by default; nothing is trained on them.
        scenes: how many it draws by default.
        max_jitter_m: largest `Viewpoint.jitter_m`.
        max_turn_deg: largest `Viewpoint.turn_deg`, to either side.
        replans_when_stalled: whether `Rollout.carry_out` supports `until_stalled`.
        readout_config: configuration that trains its read-out, by its name in training/configs.
        readout: folder of its read-out, from the project's root.
        planner: folder of its planner, from the project's root.
        command: module whose `main` is its command line (demonstrate and the like); empty: it has `scene` and
            `execute` of `commands`.
        keyframes: one of `keyframe_choice.RULES`, how its demonstrations choose their frames by default.
        needs_eyes: tasks in which a plan made for another scene mostly fails; empty if not measured.
        disturbances: kinds of `disturbances.KINDS` that its rollouts support, each with the tasks that it applies to.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    tasks: ClassVar[tuple[str, ...]]
    cameras: ClassVar[tuple[str, ...]]
    wordings: ClassVar[tuple[str, ...]]
    looks: ClassVar[tuple[str, ...]] = ("plain",)
    seeds: ClassVar[int] = 0
    scenes: ClassVar[int] = 100
    max_jitter_m: ClassVar[float] = 0.0
    max_turn_deg: ClassVar[float] = 0.0
    replans_when_stalled: ClassVar[bool] = False
    readout_config: ClassVar[str] = ""
    readout: ClassVar[str] = ""
    planner: ClassVar[str] = ""
    command: ClassVar[str] = ""
    keyframes: ClassVar[str] = RULES[0]
    needs_eyes: ClassVar[tuple[str, ...]] = ()
    disturbances: ClassVar[Mapping[str, tuple[str, ...]]] = {}

    def __init__(self, size: int, look: str = "") -> None:
        self.size, self.look = size, look or self.looks[0]
        if self.look not in self.looks:
            raise WorldError(f"look must be {' or '.join(self.looks)} in world {self.name}, got {look!r}")

    @abstractmethod
    def draw(self, seed: int, task: str = "", wordings: str = "", viewpoint: Viewpoint = USUAL_VIEW) -> Request:
        """The request of a seed, always the same.

        Args:
            seed: seed of the scene.
            task: one of `tasks`; empty: drawn from the seed.
            wordings: one of `wordings`; empty: the first.
            viewpoint: viewpoint of the camera.

        Raises:
            WorldError: a value that the world does not know.
        """

    @abstractmethod
    def first_frame(self, request: Request) -> np.ndarray:
        """Picture (size, size, 3) of the scene before anything moves."""

    @abstractmethod
    def demonstrate(self, request: Request, frames: int = 9, keyframes: str = "") -> Demonstration:
        """Let the world's own script do the task, whether it succeeds or not.

        Args:
            request: from `draw`.
            frames: number of pictures.
            keyframes: one of `keyframe_choice.RULES`, which chooses their moments; empty: the world's `keyframes`.
        """

    @abstractmethod
    def start(self, request: Request, frames: int = 9, keyframes: str = "") -> Rollout:
        """Set the scene up and begin an attempt.

        Args:
            request: from `draw`.
            frames: number of frames of a whole plan.
            keyframes: how the frames of its plans are spaced; empty: the world's `keyframes`.
        """

    @classmethod
    def runs(
        cls, first_seed: int, scenes: int, tasks: Sequence[str], cameras: Sequence[str]
    ) -> list[tuple[int, str, str]]:
        """Seed, task and camera of an evaluation: seeds follow each other, tasks in turn, then cameras.

        Benchmarks with another rule override this.
        """
        return [
            (first_seed + number, tasks[number % len(tasks)], cameras[number // len(tasks) % len(cameras)])
            for number in range(scenes)
        ]

    @classmethod
    def disturbed(cls, request: Request, kinds: Sequence[str], strength: float = 1.0) -> Request:
        """The same request with disturbances drawn from its seed.

        Attempts at it are disturbed, and its first frame is as the camera delivers it, but not its demonstration.

        Args:
            request: from `draw`.
            kinds: kinds of `disturbances`; those that the request's task cannot have are left out.
            strength: above 0, at most `disturbances.MAX_STRENGTH`.

        Raises:
            WorldError: a kind that the world does not have, or a strength out of bounds.
        """
        check_kinds(kinds, strength, cls.disturbances, cls.name)
        has = tuple(kind for kind in kinds if request.task in cls.disturbances[kind])
        return replace(request, disturbance=Disturbance(has, float(strength), request.seed) if has else None)

    @classmethod
    def check(cls, name: str, value: str) -> str:
        """Check a value of one of the attributes with choices; empty: the first choice.

        Raises:
            WorldError: the world does not know it.
        """
        known = {"task": cls.tasks, "camera": cls.cameras, "wordings": cls.wordings, "look": cls.looks}[name]
        if value and value not in known:
            raise WorldError(f"{name} must be one of {', '.join(known)} in world {cls.name}, got {value!r}")
        return value or known[0]

    def close(self) -> None:  # noqa: B027
        """Free its resources, if any."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def checked_keyframes(keyframes: np.ndarray) -> np.ndarray:
    """Keyframes (F, 4) float64 of finite numbers, F >= 2, which every world may rely on.

    Raises:
        WorldError: they have another form.
    """
    try:
        values = np.array(keyframes, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise WorldError(f"keyframes must be numbers (F, 4): x, y, z [m] and gripper 0..1; {error}") from None
    if values.ndim != 2 or values.shape[1] != 4 or len(values) < 2:
        raise WorldError(f"keyframes must have shape (F from 2, 4): x, y, z [m] and gripper 0..1, got {values.shape}")
    if not np.isfinite(values).all():
        row = int(np.argmin(np.isfinite(values).all(axis=1)))
        raise WorldError(f"keyframes must be finite, got {values[row].tolist()} at keyframe {row}")
    return values

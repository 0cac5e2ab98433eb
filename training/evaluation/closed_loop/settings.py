"""What is evaluated, in which world."""

from dataclasses import asdict, dataclass, fields

from visual_planner.execution.keyframe_choice import RULES
from visual_planner.planner.prompts import USUAL_MODES
from worlds.disturbances import check_kinds
from worlds.errors import WorldError
from worlds.protocol import Viewpoint, World
from worlds.registry import world_class

from ...errors import TrainingError

START, MOMENT = "start", "moment"
REPLAN_FROM = (START, MOMENT)
"Where a new plan begins: at the task's start, with the past kept in its frames, or at the current moment."
LEAST = {
    "first_seed": 0, "scenes": 1, "best_of": 1, "replan": 0, "replans": 0, "batch_size": 1, "steps": 0, "until_good": 1,
}  # fmt: skip
"""Smallest value of each number."""
DEPARTED_M, MAX_DEPARTED_M = 0.04, 1.0
"""Usual and largest distance between the end effector as seen and as planned that triggers a new plan [m]."""
_LATER = ("disturb", "disturb_strength", "departed_m", "until_good")
"""Settings that results record only if they differ from the default, so that older results remain comparable."""


@dataclass(frozen=True)
class Settings:
    """What is evaluated. Empty settings take the world's defaults.

    Args:
        modes: modes of planning.
        first_seed: first seed of the scenes.
        scenes: how many for each mode; the world's `runs` defines what counts as one.
        tasks: names of tasks.
        wordings: one of the world's sets of phrasings.
        camera_jitter_m: spread of the camera's place [m].
        camera_turn_deg: angle by which the camera is moved around the table before the jitter [degrees].
        best_of: plans of which the best-looking is kept.
        replan: moves after which a new plan is made; 0: never. `replans` limits how often.
        replan_from: where a new plan begins: at the task's "start", its past kept, or at this "moment".
        follow_path: keep the end effector on the drawn path; the plan's frames then give only height and gripper state.
        batch_size: plans sampled at once.
        world: name of the world.
        cameras: names of its cameras.
        look: how it is rendered.
        replans: further plans at most; with neither `replan` nor `departed_m`, each is made when the end effector no
            longer moves.
        steps: steps of the sampler; 0: the planner's own for plans that are executed (`PlannerSpec.execution_steps`).
        keyframes: how the frames of demonstrations and plans are spaced, one of `keyframe_choice.RULES`.
        disturb: kinds of disturbance that happen in every scene whose task can have them.
        disturb_strength: factor of their amounts.
        departed_m: plan again when the end effector is seen this far from where the plan has it [m], or an object's
            colour is elsewhere (see `replanning.replan.departure`); 0: never.
        until_good: most rounds of sampling until a plan looks good (see `ranking.is_good`); 1: any plan is accepted.
    """

    modes: tuple[str, ...] = USUAL_MODES
    first_seed: int | None = None
    scenes: int | None = None
    tasks: tuple[str, ...] = ()
    wordings: str = ""
    camera_jitter_m: float = 0.0
    camera_turn_deg: float = 0.0
    best_of: int = 1
    replan: int = 0
    replan_from: str = START
    follow_path: bool = False
    batch_size: int = 16
    world: str = "jaco"
    cameras: tuple[str, ...] = ()
    look: str = ""
    replans: int = 0
    steps: int = 0
    keyframes: str = ""
    disturb: tuple[str, ...] = ()
    disturb_strength: float = 1.0
    departed_m: float = 0.0
    until_good: int = 1

    def __post_init__(self) -> None:
        world = self.world_class
        self._check_disturbances(world)
        able = tuple(task for task in world.tasks if any(task in world.disturbances[kind] for kind in self.disturb))
        for name, own in (
            ("first_seed", world.seeds), ("scenes", world.scenes), ("tasks", able or world.tasks),
            ("cameras", world.cameras),
            ("wordings", world.wordings[0]), ("look", world.looks[0]), ("keyframes", world.keyframes),
        ):  # fmt: skip
            if getattr(self, name) in (None, "", ()):
                object.__setattr__(self, name, own)
        for name, least in LEAST.items():
            if getattr(self, name) < least:
                raise TrainingError(f"--{name.replace('_', '-')} must be at least {least}, got {getattr(self, name)}")
        if self.replan_from not in REPLAN_FROM:
            raise TrainingError(f"--replan-from must be {' or '.join(REPLAN_FROM)}, got {self.replan_from!r}")
        for option, given, known in (
            ("tasks", self.tasks, world.tasks), ("cameras", self.cameras, world.cameras),
            ("wordings", (self.wordings,), world.wordings), ("look", (self.look,), world.looks),
            ("keyframes", (self.keyframes,), RULES),
        ):  # fmt: skip
            if unknown := [name for name in given if name not in known]:
                raise TrainingError(f"--{option} must be some of {', '.join(known)}, got {', '.join(unknown)}")
        if not 0 <= self.camera_jitter_m <= world.max_jitter_m:
            raise TrainingError(f"--camera-jitter must be 0 to {world.max_jitter_m:g} m, got {self.camera_jitter_m}")
        if not abs(self.camera_turn_deg) <= world.max_turn_deg:
            raise TrainingError(
                f"--camera-turn must be -{world.max_turn_deg:g} to {world.max_turn_deg:g} degrees, "
                f"got {self.camera_turn_deg}"
            )
        self._check_replanning(world)
        if self.disturb and (still := [task for task in self.tasks if task not in able]):
            raise TrainingError(
                f"--tasks must be some of {', '.join(able)} with --disturb {','.join(self.disturb)} in world "
                f"{self.world}, got {', '.join(still)}"
            )

    @property
    def rule(self) -> str:
        """When a new plan is made: `never`, `after` some moves, when the world `departed` or the arm `stalled`."""
        if self.replan:
            return "after"
        return "departed" if self.departed_m else "stalled" if self.replans else "never"

    def told(self) -> dict:
        """The settings for results; those added later only if not default, so that older results remain comparable."""
        defaults = {field.name: field.default for field in fields(self) if field.name in _LATER}
        if self.disturb:
            defaults.pop("disturb_strength")
        return {name: value for name, value in asdict(self).items() if value != defaults.get(name, ...)}

    @property
    def world_class(self) -> type[World]:
        """The world's class."""
        return world_class(self.world)

    def runs(self) -> list[tuple[int, str, str]]:
        """Seed, task and camera of each scene."""
        return self.world_class.runs(self.first_seed, self.scenes, self.tasks, self.cameras)

    def viewpoint(self, camera: str) -> Viewpoint:
        """The viewpoint of a scene's camera."""
        return Viewpoint(camera, self.camera_jitter_m, self.camera_turn_deg)

    def _check_disturbances(self, world: type[World]) -> None:
        try:
            check_kinds(
                self.disturb, self.disturb_strength, world.disturbances, self.world, ("--disturb", "--disturb-strength")
            )
        except WorldError as error:
            raise TrainingError(str(error)) from None

    def _check_replanning(self, world: type[World]) -> None:
        if not 0 <= self.departed_m <= MAX_DEPARTED_M:
            raise TrainingError(
                f"--replan-when-departed must be above 0 and at most {MAX_DEPARTED_M:g} m, got {self.departed_m:g}"
            )
        if self.departed_m and self.replan:
            raise TrainingError(f"--replan must be 0 together with --replan-when-departed, got {self.replan}")
        if self.departed_m and not self.replans:
            raise TrainingError("--replans must be at least 1 with --replan-when-departed, got 0")
        if self.replans and not (self.replan or self.departed_m or world.replans_when_stalled):
            raise TrainingError(
                f"--replans must be 0 in world {self.world}, got {self.replans}: use --replan or --replan-when-departed"
            )

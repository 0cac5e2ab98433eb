"""Frames as a planner draws them, with known truth: true plans denoised again from some noise level on (SDEdit)."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from tqdm import tqdm

from visual_planner.grid.frame import to_bytes
from visual_planner.planner.spec import PlannerSpec

from ..data.overlays import with_path
from ..data.overlays.recorded import timed_trajectory
from ..errors import TrainingError
from ..model.pipeline import PlannerPipeline, open_planner
from ..model.sampling import draw_noise
from ..sections.planner import PlannedSection
from .data import Frames

_BATCH = 16


@dataclass(frozen=True)
class Episode:
    """One episode as a planner's input.

    Args:
        numbers: numbers of its frames among those of the read-out (F,).
        plan: the frames (F, h, w, 3) uint8.
        first: its first frame, with the path if the planner follows one.
        prompt: its prompt.
    """

    numbers: np.ndarray
    plan: np.ndarray
    first: np.ndarray
    prompt: str


def planned_pictures(
    frames: Frames, section: PlannedSection, seed: int, kept: float | None = None
) -> dict[int, np.ndarray]:
    """Frames of some episodes as the planner draws them again.

    The more steps are repeated, the more a frame has the errors of plans, and the less certain it is what it really
    shows; a path is drawn if possible, so that the end effector stays where it truly is.

    Args:
        frames: what to choose from, except episodes without an instruction, of another length than a plan, or from
            sources that the section excludes.
        section: planner, number of episodes and steps.
        seed: seed of the choice and the noise.
        kept: fraction of the sampler's steps that are skipped; None: each episode draws its own from the section.

    Returns:
        Picture (h, w, 3) uint8 by its number in `frames`.

    Raises:
        TrainingError: no episode is as long as a plan.
    """
    planner, lora = open_planner(section.folder, section.lora)
    spec, steps = planner.spec, section.steps or planner.spec.steps
    rng = np.random.default_rng(seed)
    episodes = [np.flatnonzero(frames.episode == number) for number in np.unique(frames.episode)]
    asked = [bool(frames.instructions[frames.episode[numbers[0]]]) for numbers in episodes]
    whole = [len(numbers) == spec.layout.frames for numbers in episodes]
    drawable = [frames.source[frames.episode[numbers[0]]] < (section.sources or math.inf) for numbers in episodes]
    episodes = [numbers for numbers, *fits in zip(episodes, asked, whole, drawable, strict=True) if all(fits)]
    if not episodes:
        raise TrainingError(
            f"readout.planner: no episode has an instruction and {spec.layout.frames} frames, as a plan of {lora} has"
        )
    chosen = [episodes[i] for i in rng.permutation(len(episodes))[: section.episodes]]
    least, most = (round(share * steps) for share in (section.kept if kept is None else (kept, kept)))
    skips = rng.integers(least, max(least, most) + 1, len(chosen))
    made: dict[int, np.ndarray] = {}
    with tqdm(total=len(chosen), desc="frames as the planner generates them") as bar:
        for skip in np.unique(skips).tolist():
            of_level = [ask(frames, numbers, spec) for numbers, own in zip(chosen, skips, strict=True) if own == skip]
            for start in range(0, len(of_level), _BATCH):
                part = of_level[start : start + _BATCH]
                drawn = _redraw(planner, part, int(rng.integers(2**31)), skip, steps)
                for one, pictures in zip(part, drawn, strict=True):
                    made.update(zip(one.numbers.tolist(), pictures, strict=True))
                bar.update(len(part))
    return made


def ask(frames: Frames, numbers: np.ndarray, spec: PlannerSpec) -> Episode:
    """A planner's input for an episode, with its path if the cameras are known and the planner takes paths.

    Raises:
        TrainingError: frames of another size than the planner's, or no path for a planner that needs one.
    """
    plan, episode = frames.pictures[numbers], int(frames.episode[numbers[0]])
    size = plan.shape[1:3]
    if size != (spec.cell_height, spec.cell_width):
        raise TrainingError(
            f"readout.size must be the planner's {spec.cell_height}x{spec.cell_width} for its frames, "
            f"got {size[0]}x{size[1]}"
        )
    modes = ("both", "trajectory", "text") if frames.views else ("text",)
    mode = next((mode for mode in modes if mode in spec.modes), None)
    if mode is None:
        raise TrainingError("readout.planner needs drawn paths, but the sources have no camera view to draw them with")
    trajectory = None
    if mode != "text":
        places = frames.seen[numbers, :2] * size[::-1]
        trajectory = timed_trajectory(places, np.linspace(0.0, 1.0, len(places)), size).clipped("clamp")
    prompt = spec.prompt(mode, frames.instructions[episode])
    return Episode(numbers, plan, with_path(plan[0], trajectory, spec), prompt)


def _redraw(planner: PlannerPipeline, episodes: list[Episode], seed: int, skip: int, steps: int) -> np.ndarray:
    """(B, F, h, w, 3) uint8."""
    noise: torch.Tensor = draw_noise(planner.spec, [seed + place for place in range(len(episodes))])
    return to_bytes(
        planner.redraw(
            np.stack([one.plan for one in episodes]), np.stack([one.first for one in episodes]),
            [one.prompt for one in episodes], noise, skip, steps,
        )
    )  # fmt: skip

"""PlannerSpec: what a planner LoRA was trained for, carried in the header of its safetensors file.

Training writes the record, loaders read it, and every later step takes its settings from it, so training and use
cannot disagree. Weights that were released without a record get one from `presets.PRESETS`.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

from ..errors import SpecError, brief
from ..execution.keyframe_choice import RULES
from ..grid.layout import GridLayout
from .conditioning import condition_token_count, schedule_mu
from .families import FLUX1, Family, family_of
from .prompts import MODES, USUAL_MODES, build_prompt, parts_of, sentence_of
from .spec_record import SPEC_KEY, SPEC_VERSION, read_record
from .spec_values import checked

NOT_TRAINED = ("execution_steps",)
"""Fields that do not affect training: they are measured on a finished planner and may change afterwards."""


@dataclass(frozen=True)
class PlannerSpec:
    """How a planner was trained, and therefore how it must be run.

    Args:
        version: version of this record.
        rows: rows of cells in the grid.
        cols: columns of cells in the grid.
        order: one of `layout.ORDERS`.
        cell_height: height of one cell [px], divisible by 16 so that no token straddles two cells.
        cell_width: width of one cell [px], the same.
        modes: which of `prompts.MODES` it was trained in.
        condition_tokens: one of `conditioning.CONDITION_TOKENS`.
        position_ids: one of `conditioning.POSITION_IDS`.
        overlay: one of `overlay.OVERLAY_STYLES`, how trajectories are drawn on its first frames.
        overlay_color_by: one of `overlay.COLOR_BY`, what the gradient's colour stands for.
        text_prompt: template of text mode; empty = the default for the grid.
        trajectory_prompt: sentence of trajectory mode; empty = the default for the grid.
        both_prompt: template of both mode; empty = the default for the grid.
        goal_prompt: sentence of goal mode; empty = the default for the grid.
        base_model: name of the model that the LoRA belongs to; None = the family's.
        base_shift: schedule shift at 256 tokens; None = the family's.
        max_shift: schedule shift at 4096 tokens; None = the family's.
        shift_counts_condition: whether these numbers include condition tokens (they do in the released code).
        guidance: distilled guidance to sample with.
        steps: Euler steps to sample with, where a plan is looked at.
        fit: one of `frame.FITS`, how a picture of another shape fills a cell.
        family: one of `families.FAMILIES`, the family of the base model.
        cfg: classifier-free guidance to sample with, against the empty prompt; 1 = without.
        keyframes: one of `keyframe_choice.RULES`, how the frames of its plans are spaced.
        execution_steps: Euler steps to sample with, where a plan is only read and executed: in the closed loop,
            re-planning and the choice among plans; None = `steps`.

    Raises:
        SpecError: a field is wrong; the message names it.
    """

    version: int = SPEC_VERSION
    rows: int = 3
    cols: int = 3
    order: str = "serpentine"
    cell_height: int = 240
    cell_width: int = 320
    modes: tuple[str, ...] = USUAL_MODES
    condition_tokens: str = "full_grid"
    position_ids: str = "clone"
    overlay: str = "gradient"
    overlay_color_by: str = "time"
    text_prompt: str = ""
    trajectory_prompt: str = ""
    both_prompt: str = ""
    goal_prompt: str = ""
    base_model: str | None = None
    base_shift: float | None = None
    max_shift: float | None = None
    shift_counts_condition: bool = True
    guidance: float = 3.5
    steps: int = 20
    fit: str = "letterbox"
    family: str = FLUX1.name
    cfg: float = 1.0
    keyframes: str = RULES[0]
    execution_steps: int | None = None

    def __post_init__(self) -> None:
        for name, value in checked(vars(self)).items():
            object.__setattr__(self, name, value)

    @property
    def layout(self) -> GridLayout:
        """Grid that it paints."""
        return GridLayout(self.rows, self.cols, self.order)

    @property
    def grid_size(self) -> tuple[int, int]:
        """Size (H, W) of its grids [px]."""
        return self.layout.grid_size(self.cell_height, self.cell_width)

    @property
    def base_family(self) -> Family:
        """Family of the base model."""
        return family_of(self.family)

    @property
    def cell_tokens(self) -> tuple[int, int]:
        """Size (h, w) of one cell [tokens]."""
        side = self.base_family.token_px
        return self.cell_height // side, self.cell_width // side

    @property
    def grid_tokens(self) -> tuple[int, int]:
        """Size (h, w) of its grids [tokens]."""
        return self.rows * self.cell_tokens[0], self.cols * self.cell_tokens[1]

    @property
    def latent_size(self) -> tuple[int, int]:
        """Size (h, w) of its grids' latents."""
        side = self.base_family.downscale
        return self.grid_size[0] // side, self.grid_size[1] // side

    @property
    def cell_latent_size(self) -> tuple[int, int]:
        """Size (h, w) of one cell's latent."""
        side = self.base_family.downscale
        return self.cell_height // side, self.cell_width // side

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Shape (C, h, w) of its grids' latents."""
        return (self.base_family.channels, *self.latent_size)

    @property
    def condition_latent_shape(self) -> tuple[int, int, int]:
        """Shape (C, h, w) of its condition's latent."""
        side = self.base_family.downscale
        return (self.base_family.channels, *(pixels // side for pixels in self.condition_size))

    @property
    def condition_size(self) -> tuple[int, int]:
        """Size (H, W) of the picture that the condition is [px]: a cell, two with a goal, or the whole grid."""
        if not self.condition_is_cell:
            return self.grid_size
        return self.cell_height, self.cell_width * (2 if self.has_goal else 1)

    @property
    def condition_is_cell(self) -> bool:
        """Whether the condition is a picture of the first cell (and the goal's), not of the whole condition grid."""
        return self.condition_tokens != "full_grid"

    @property
    def has_goal(self) -> bool:
        """Whether some of its modes have a goal picture; its condition then has room for one in every mode."""
        return any(parts_of(mode).goal for mode in self.modes)

    @property
    def has_path(self) -> bool:
        """Whether some of its modes have a drawn path."""
        return any(parts_of(mode).path for mode in self.modes)

    @property
    def condition_is_cached(self) -> bool:
        """Whether the condition's keys and values are computed once for a plan."""
        return self.condition_tokens == "first_cell_cached"

    @property
    def target_tokens(self) -> int:
        """Number of tokens of one grid."""
        return self.layout.frames * self.cell_tokens[0] * self.cell_tokens[1]

    @property
    def conditioning_tokens(self) -> int:
        """Number of condition tokens that follow the grid's."""
        return condition_token_count(self.layout, self.cell_tokens, self.condition_tokens, self.has_goal)

    def prompt(self, mode: str, instruction: str = "", template: str | None = None) -> str:
        """Prompt of a plan; see `prompts.build_prompt`.

        Args:
            mode: one of `prompts.MODES`.
            instruction: what the robot should do.
            template: replaces the planner's own sentence of that mode.

        Raises:
            PromptError: unknown mode, empty instruction in a mode with text, or a template without its slot.
        """
        own = getattr(self, f"{sentence_of(mode)}_prompt") if mode in MODES else None
        return build_prompt(mode, instruction, template or own)

    def mu(self) -> float:
        """Shift of its noise schedule (see `conditioning.schedule_mu`)."""
        tokens = self.target_tokens + (self.conditioning_tokens if self.shift_counts_condition else 0)
        return schedule_mu(tokens, self.base_shift, self.max_shift)

    def differences(self, other: "PlannerSpec") -> list[str]:
        """Fields in which two planners were trained differently; those that only matter in execution do not count.

        Args:
            other: spec of another file.
        """
        names = [field.name for field in fields(self) if field.name not in NOT_TRAINED]
        return [name for name in names if getattr(self, name) != getattr(other, name)]

    def to_metadata(self) -> dict[str, str]:
        """Header entry `{"visual_planner.spec": json}` for `safetensors`."""
        return {SPEC_KEY: json.dumps(asdict(self), sort_keys=True, allow_nan=False)}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str] | None) -> "PlannerSpec | None":
        """Read the record from a safetensors header.

        Args:
            metadata: the header's entries; None is a header without any.

        Returns:
            The spec, or None when the header has no record.

        Raises:
            SpecError: the record is not JSON, is of a newer version, lacks keys, has unknown keys or wrong values.
        """
        if metadata is not None and not isinstance(metadata, Mapping):
            raise SpecError(f"planner spec must stand in a header of texts, got {brief(metadata)}")
        text = (metadata or {}).get(SPEC_KEY)
        return None if text is None else cls.from_json(text)

    @classmethod
    def from_json(cls, text: str) -> "PlannerSpec":
        """Read a record from JSON text; errors as `from_metadata`."""
        return cls(**read_record(text, {field.name for field in fields(cls)}))

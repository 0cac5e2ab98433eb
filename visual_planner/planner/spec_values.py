"""Which values the fields of a planner spec may have, and which values replace empty fields."""

from collections.abc import Mapping
from typing import Any

from ..errors import LayoutError, PromptError, SpecError, brief
from ..execution.keyframe_choice import RULES
from ..grid.frame import FITS
from ..grid.layout import ORDERS, GridLayout, whole_number
from ..trajectory.overlay import COLOR_BY, OVERLAY_STYLES
from .conditioning import CONDITION_TOKENS, POSITION_IDS
from .families import family_of
from .prompts import (
    MODES,
    SLOT,
    check_template,
    default_both_template,
    default_goal_prompt,
    default_text_template,
    default_trajectory_prompt,
)
from .spec_record import SPEC_VERSION

MAX_SIDE_PX, MAX_GRID_PX, MAX_STEPS, MAX_TEXT, MAX_NUMBER = 8192, 2**26, 10_000, 20_000, 1e6
"""Bounds of a record's values: the file may come from anyone, and must not exhaust the memory."""
_NOT_FINITE = (float("inf"), float("-inf"))
_CHOICES = {
    "order": ORDERS,
    "condition_tokens": CONDITION_TOKENS,
    "position_ids": POSITION_IDS,
    "overlay": OVERLAY_STYLES,
    "overlay_color_by": COLOR_BY,
    "fit": FITS,
    "keyframes": RULES,
}
_LEAST = {"guidance": 0, "cfg": 1}
_DEFAULT_PROMPTS = {
    "text_prompt": default_text_template,
    "trajectory_prompt": default_trajectory_prompt,
    "both_prompt": default_both_template,
    "goal_prompt": default_goal_prompt,
}


def checked(given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a spec, each with a value of its own type.

    Args:
        given: every field of `PlannerSpec`.

    Raises:
        SpecError: a field is wrong; the message names it.
    """
    values = dict(given)
    if values["version"] != SPEC_VERSION or isinstance(values["version"], bool):
        raise SpecError(f"planner spec version must be {SPEC_VERSION}, got {brief(values['version'])}")
    _fill(values)
    for name in ("rows", "cols", "cell_height", "cell_width", "steps", "execution_steps"):
        most = MAX_STEPS if name.endswith("steps") else MAX_SIDE_PX
        values[name] = whole_number(values[name], f"planner spec {name}", 1, SpecError, most)
    for name, known in _CHOICES.items():
        if values[name] not in known:
            raise SpecError(f"planner spec {name} must be one of {', '.join(known)}, got {brief(values[name])}")
    for name in ("base_shift", "max_shift", "guidance", "cfg"):
        values[name] = _number(name, values[name])
    counts, base = values["shift_counts_condition"], values["base_model"]
    if not isinstance(counts, bool):
        raise SpecError(f"planner spec shift_counts_condition must be true or false, got {brief(counts)}")
    if not isinstance(base, str) or not base.strip():
        raise SpecError(f"planner spec base_model must name a model, got {brief(base)}")
    values["modes"] = _modes(values["modes"])
    _check_prompts(values, _layout(values))
    return values


def _fill(values: dict[str, Any]) -> None:
    family = family_of(values["family"])
    for name in ("base_model", "base_shift", "max_shift"):
        if values[name] is None:
            values[name] = getattr(family, name)
    if values["execution_steps"] is None:
        values["execution_steps"] = values["steps"]


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or value in _NOT_FINITE or value != value:
        raise SpecError(f"planner spec {name} must be a finite number, got {brief(value)}")
    if abs(value) > MAX_NUMBER:
        raise SpecError(f"planner spec {name} must be at most {MAX_NUMBER:g}, got {brief(value)}")
    if name in _LEAST and value < _LEAST[name]:
        raise SpecError(f"planner spec {name} must be {_LEAST[name]} or more, got {brief(value)}")
    return float(value)


def _modes(modes: object) -> tuple[str, ...]:
    if not isinstance(modes, list | tuple) or not modes or not all(mode in MODES for mode in modes):
        raise SpecError(f"planner spec modes must be one or more of {', '.join(MODES)}, got {brief(modes)}")
    return tuple(mode for mode in MODES if mode in modes)


def _layout(values: dict[str, Any]) -> GridLayout:
    cell = values["cell_height"], values["cell_width"]
    try:
        layout = GridLayout(values["rows"], values["cols"], values["order"])
        layout.require_cells_divisible(*cell, family_of(values["family"]).token_px, "token")
    except LayoutError as error:
        raise SpecError(f"planner spec cell_height and cell_width: {error}") from None
    height, width = layout.grid_size(*cell)
    if height * width > MAX_GRID_PX:
        raise SpecError(f"planner spec must have a grid of at most {MAX_GRID_PX} pixels, got {height} x {width}")
    return layout


def _check_prompts(values: dict[str, Any], layout: GridLayout) -> None:
    for name, default in _DEFAULT_PROMPTS.items():
        value = values[name]
        if not isinstance(value, str):
            raise SpecError(f"planner spec {name} must be text, got {brief(value)}")
        if len(value) > MAX_TEXT:
            raise SpecError(f"planner spec {name} must have at most {MAX_TEXT} characters, got {len(value)}")
        values[name] = value if value.strip() else default(layout)
    try:
        check_template(values["text_prompt"], "planner spec text_prompt")
        check_template(values["both_prompt"], "planner spec both_prompt")
    except PromptError as error:
        raise SpecError(str(error)) from None
    for name in ("trajectory_prompt", "goal_prompt"):
        if SLOT in values[name]:
            raise SpecError(f"planner spec {name} must not contain {SLOT}, got {brief(values[name])}")

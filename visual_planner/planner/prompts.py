"""From an instruction to the prompt that a planner was trained with.

A planner LoRA responds only to its sentence: without the template around the instruction the success of the published
planner fell from 73% to 2.5% (arXiv 2512.00532). So templates are part of the PlannerSpec, and this module builds
prompts from them the same way in training and in use.
"""

from typing import NamedTuple

from ..errors import PromptError, brief
from ..grid.layout import GridLayout

USUAL_MODES = ("text", "trajectory", "both")
"""text: an instruction; trajectory: a path on the first frame and a fixed sentence; both: path and instruction."""
MODES = (*USUAL_MODES, "goal", "text_goal", "trajectory_goal", "both_goal")
"""goal: a picture of the scene as it should be at the end, and a fixed sentence; the others: the same picture beside
what the mode before the underscore has, with that mode's sentence."""

SLOT = "{instruction}"

_TEXT_PATTERNS = (
    "a {grid} grid of {frames} frames showing, step by step, how the robot will {instruction}",
    "{frames} frames in a {grid} grid in which the robot arm manages to {instruction}",
    "a {grid} storyboard of a robot arm at work: {instruction}",
    "a {grid} contact sheet of one robot video; the robot must {instruction}",
    "a {grid} grid that winds through time in {frames} frames while the robot goes on to {instruction}",
    "the robot's plan as a {grid} picture grid, from the first frame to the last: {instruction}",
    "{frames} consecutive views of a robot at a table, laid out {grid}, as it sets out to {instruction}",
    "a {grid} sequence of robot manipulation frames; task: {instruction}",
    "in {frames} frames arranged {grid}, a robot gripper moves to {instruction}",
    "a time-lapse of a robot arm in a {grid} grid, from start to finish: {instruction}",
    "a robot arm is told to {instruction}; {frames} frames of it in a {grid} grid",
    "a {grid} grid where each cell is the next moment of a robot doing this: {instruction}",
    "a {grid} film strip folded back and forth, {frames} moments of the robot as it tries to {instruction}",
    "{frames} snapshots, {grid}, taken at even intervals while the robot arm has to {instruction}",
    "a {grid} panel picture: the first panel is the scene as it is, the others show the robot {instruction}",
    "starting from the first cell, the {grid} grid continues the robot's motion to {instruction}",
    "a complete demonstration in a {grid} grid of frames: {instruction}",
    "what the camera will see, in {frames} frames on a {grid} grid, when the robot is asked to {instruction}",
    "a {grid} montage of a robotic manipulation episode with the goal: {instruction}",
    "the future of this scene in a {grid} grid if the robot arm does as told: {instruction}",
    "a robot carries out an order, shown as {frames} frames in a {grid} grid; the order: {instruction}",
    "a {grid} visual plan, {frames} frames long, for a robot that should {instruction}",
    "an expert robot's {frames} keyframes on a {grid} sheet: {instruction}",
    "a {grid} grid of frames from a fixed camera; only the robot and what it touches move: {instruction}",
    "frame by frame over a {grid} grid, the gripper works to {instruction}",
    "a {grid} picture sequence with one scene, one camera and one robot arm, which is to {instruction}",
    "the whole episode at a glance, {frames} frames in a {grid} grid: the robot performs the task to {instruction}",
    "a {grid} chronicle of a tabletop robot from rest to done: {instruction}",
    "{frames} evenly spaced frames in a {grid} mosaic of a manipulator that will {instruction}",
    "a {grid} grid of robot camera frames that answers the request: {instruction}",
    "as a {grid} sheet of {frames} stills, the robot arm's attempt to {instruction}",
    "a smooth robot motion cut into {frames} frames and tiled {grid}; it shows how to {instruction}",
)
_TRAJECTORY_PATTERN = (
    "a {grid} grid of {frames} frames in which the robot's gripper follows the path drawn on the first frame, "
    "from its red start to its blue end"
)
_BOTH_PATTERN = (
    "a {grid} grid of {frames} frames showing, step by step, how the robot's gripper follows the path drawn on the "
    "first frame, from its red start to its blue end, to {instruction}"
)
_GOAL_PATTERN = (
    "a {grid} grid of {frames} frames in which the robot brings the scene of the first frame into the state that the "
    "goal picture shows"
)
_NUMBER_WORDS = (
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
)


class ModeParts(NamedTuple):
    """What a plan of a mode is conditioned on, beside the first frame.

    Args:
        text: an instruction.
        path: a path, drawn on the first frame.
        goal: a picture of the end.
    """

    text: bool
    path: bool
    goal: bool


def parts_of(mode: str) -> ModeParts:
    """What a mode is conditioned on.

    Raises:
        PromptError: there is no such mode.
    """
    if mode not in MODES:
        raise PromptError(f"mode must be one of {', '.join(MODES)}, got {brief(mode)}")
    usual, _, rest = mode.partition("_")
    return ModeParts(usual in ("text", "both"), usual in ("trajectory", "both"), "goal" in (usual, rest))


def _fill_layout(pattern: str, layout: GridLayout) -> str:
    count = layout.frames
    word = _NUMBER_WORDS[count] if count < len(_NUMBER_WORDS) else str(count)
    return pattern.replace("{grid}", f"{layout.rows}x{layout.cols}").replace("{frames}", word)


def text_templates(layout: GridLayout) -> tuple[str, ...]:
    """Sentences with an {instruction} slot that describe this grid to the model; the first one is the default."""
    return tuple(_fill_layout(pattern, layout) for pattern in _TEXT_PATTERNS)


def default_text_template(layout: GridLayout) -> str:
    """Default template of mode "text" for a grid."""
    return _fill_layout(_TEXT_PATTERNS[0], layout)


def default_trajectory_prompt(layout: GridLayout) -> str:
    """Default sentence of mode "trajectory" for a grid."""
    return _fill_layout(_TRAJECTORY_PATTERN, layout)


def default_both_template(layout: GridLayout) -> str:
    """Default template of mode "both" for a grid."""
    return _fill_layout(_BOTH_PATTERN, layout)


def default_goal_prompt(layout: GridLayout) -> str:
    """Default sentence of mode "goal" for a grid."""
    return _fill_layout(_GOAL_PATTERN, layout)


def clean_instruction(instruction: str) -> str:
    """Instruction as the planners are trained on it: one line, lower case, single spaces, no final period.

    Raises:
        PromptError: nothing is left of it, or it is not text.
    """
    if not isinstance(instruction, str):
        raise PromptError(f"instruction must be text, got {type(instruction).__name__}")
    text = " ".join(instruction.split()).rstrip(". ").lower()
    if not text:
        raise PromptError(
            f'instruction must say what the robot should do, such as "push the red cube", got {brief(instruction)}'
        )
    return text


def check_template(template: str, name: str = "prompt template") -> str:
    """Return a template that has its {instruction} slot exactly once.

    Raises:
        PromptError: it has none or several.
    """
    if not isinstance(template, str) or template.count(SLOT) != 1:
        raise PromptError(f"{name} must contain {SLOT} exactly once, got {brief(template)}")
    return template


def build_prompt(mode: str, instruction: str = "", template: str | None = None) -> str:
    """Prompt of a plan.

    Args:
        mode: one of `MODES`.
        instruction: what the robot should do; not used in modes without text, as in the published method.
        template: sentence of that mode, with `SLOT` where the instruction goes (modes without text have none); None
            or empty: the default of a 3x3 grid.

    Raises:
        PromptError: unknown mode, empty instruction in a mode with text, or a template without its slot.
    """
    parts = parts_of(mode)
    template = template or _DEFAULTS[sentence_of(mode)](GridLayout())
    if not parts.text:
        if SLOT in template:
            other = {"trajectory": "both", "goal": "text_goal", "trajectory_goal": "both_goal"}[mode]
            raise PromptError(f"{mode} prompt must not contain {SLOT} (use mode {other}), got {brief(template)}")
        return template
    return check_template(template, f"{mode} prompt").replace(SLOT, clean_instruction(instruction))


def sentence_of(mode: str) -> str:
    """The mode whose sentence a mode shares: a goal picture beside other things does not change the sentence."""
    return mode.removesuffix("_goal")


_DEFAULTS = {
    "text": default_text_template,
    "trajectory": default_trajectory_prompt,
    "both": default_both_template,
    "goal": default_goal_prompt,
}

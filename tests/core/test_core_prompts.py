"""Prompts: templates, instructions, modes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from visual_planner.errors import PromptError
from visual_planner.grid.layout import GridLayout
from visual_planner.planner.presets import PRESETS
from visual_planner.planner.prompts import (
    MODES,
    USUAL_MODES,
    build_prompt,
    check_template,
    clean_instruction,
    default_both_template,
    default_goal_prompt,
    default_text_template,
    default_trajectory_prompt,
    parts_of,
    text_templates,
)
from visual_planner.planner.spec import PlannerSpec


def test_there_are_many_different_templates_with_one_slot_each():
    templates = text_templates(GridLayout())
    assert len(set(templates)) == len(templates) >= 30
    for template in (*templates, default_both_template(GridLayout())):
        assert check_template(template) == template
        assert "3x3" in template and template == template.strip() and "  " not in template
        assert template.replace("{instruction}", "").count("{") == 0
    assert templates[0] == default_text_template(GridLayout())


def test_templates_speak_of_their_own_grid():
    for template in text_templates(GridLayout(4, 5)):
        assert "4x5" in template and "nine" not in template
    assert any("20 frames" in template for template in text_templates(GridLayout(4, 5)))


def test_modes():
    assert USUAL_MODES == ("text", "trajectory", "both")
    assert (*USUAL_MODES, "goal", "text_goal", "trajectory_goal", "both_goal") == MODES
    instruction = "Push  the Red cube\n to the LEFT."
    text = build_prompt("text", instruction)
    assert text == "a 3x3 grid of nine frames showing, step by step, how the robot will push the red cube to the left"
    assert build_prompt("trajectory", instruction) == build_prompt("trajectory")
    assert build_prompt("trajectory") == default_trajectory_prompt(GridLayout())
    both = build_prompt("both", instruction)
    assert "path drawn on the first frame" in both and both.endswith("to push the red cube to the left")


def test_a_goal_picture_beside_other_things_does_not_change_the_sentence():
    assert [tuple(parts_of(mode)) for mode in MODES] == [
        (True, False, False), (False, True, False), (True, True, False),
        (False, False, True), (True, False, True), (False, True, True), (True, True, True),
    ]  # fmt: skip
    spec = PlannerSpec(modes=MODES)
    for mode in USUAL_MODES:
        assert build_prompt(f"{mode}_goal", "go") == build_prompt(mode, "go") == spec.prompt(f"{mode}_goal", "go")
    assert build_prompt("goal", "ignored") == default_goal_prompt(GridLayout()) == spec.prompt("goal")
    assert len({build_prompt(mode, "go") for mode in (*USUAL_MODES, "goal")}) == 4


def test_the_specs_templates_are_used_and_can_be_replaced():
    spec = PlannerSpec(
        text_prompt="do: {instruction}", trajectory_prompt="follow", both_prompt="follow and {instruction}"
    )
    assert spec.prompt("text", "Go") == "do: go"
    assert spec.prompt("trajectory") == "follow"
    assert spec.prompt("both", "Go") == "follow and go"
    assert spec.prompt("text", "Go", "please {instruction}!") == "please go!"
    assert spec.prompt("both", "Go", "{instruction} along it") == "go along it"
    assert spec.prompt("trajectory", "", "along") == "along"
    assert "arrows" in PRESETS["rt1_trajectory"].prompt("trajectory")


@given(st.text(max_size=40))
def test_instructions_are_one_clean_line(text):
    try:
        cleaned = clean_instruction(text)
    except PromptError as error:
        assert "instruction must say what the robot should" in str(error)
        return
    assert cleaned == clean_instruction(cleaned) and cleaned
    assert cleaned == " ".join(cleaned.split()) and not cleaned.endswith(".")


def test_braces_in_an_instruction_are_left_alone():
    assert build_prompt("text", "open {the} drawer").endswith("open {the} drawer")


@pytest.mark.parametrize("instruction", ["", "  \n", ".", " . . "])
@pytest.mark.parametrize("mode", ["text", "both"])
def test_an_empty_instruction_is_refused(mode, instruction):
    with pytest.raises(PromptError, match="instruction must say what the robot should"):
        build_prompt(mode, instruction)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: build_prompt("path", "go"), "mode must be one of text, trajectory, both, goal, .*, got 'path'"),
        (
            lambda: PlannerSpec().prompt("path", "go"),
            "mode must be one of text, trajectory, both, goal, .*, got 'path'",
        ),
        (lambda: build_prompt("text", 3), "instruction must be text, got int"),
        (lambda: build_prompt("text", "go", template="go"), "text prompt must contain {instruction} exactly once"),
        (lambda: build_prompt("both", "go", template="{instruction} {instruction}"), "both prompt must contain"),
        (
            lambda: build_prompt("trajectory", "go", template="{instruction}"),
            "trajectory prompt must not contain {instruction} .use mode both.",
        ),
    ],
)
def test_errors(call, message):
    with pytest.raises(PromptError, match=message):
        call()

"""The planner's record: what it refuses, what it computes, its way through a file header."""

import json
import math
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.small_spec import SMALL_SPEC
from visual_planner.errors import PlannerError, SpecError
from visual_planner.grid.frame import FITS
from visual_planner.grid.layout import ORDERS, GridLayout
from visual_planner.planner.conditioning import CONDITION_TOKENS, POSITION_IDS
from visual_planner.planner.families import FAMILIES, FLUX1, FLUX2
from visual_planner.planner.presets import PRESETS
from visual_planner.planner.prompts import MODES
from visual_planner.planner.spec import SPEC_KEY, SPEC_VERSION, PlannerSpec
from visual_planner.trajectory.overlay import COLOR_BY, OVERLAY_STYLES
from visual_planner.versions import upgrade

SMALL = PlannerSpec(**SMALL_SPEC)
RECORDS = Path(__file__).parents[1] / "fixtures" / "records"

sides = st.integers(1, 40).map(lambda n: 16 * n)
specs = st.builds(
    PlannerSpec,
    rows=st.integers(1, 6),
    cols=st.integers(1, 6),
    order=st.sampled_from(ORDERS),
    cell_height=sides,
    cell_width=sides,
    modes=st.lists(st.sampled_from(MODES), min_size=1, max_size=3),
    condition_tokens=st.sampled_from(CONDITION_TOKENS),
    position_ids=st.sampled_from(POSITION_IDS),
    overlay=st.sampled_from(OVERLAY_STYLES),
    overlay_color_by=st.sampled_from(COLOR_BY),
    text_prompt=st.just("") | st.text(st.characters(codec="utf-8"), max_size=9).map(lambda t: t + "{instruction}"),
    base_shift=st.floats(-2, 2),
    max_shift=st.integers(-2, 2),
    shift_counts_condition=st.booleans(),
    guidance=st.floats(0, 30),
    steps=st.integers(1, 100),
    execution_steps=st.none() | st.integers(1, 100),
    fit=st.sampled_from(FITS),
    family=st.sampled_from(sorted(FAMILIES)),
    cfg=st.floats(1, 20),
)


@given(specs)
def test_a_header_gives_the_same_spec_back(spec):
    header = {"format": "pt", **spec.to_metadata()}
    assert all(isinstance(value, str) for value in header.values())  # what safetensors takes
    assert PlannerSpec.from_metadata(header) == spec
    assert hash(PlannerSpec.from_metadata(header)) == hash(spec)


@pytest.mark.parametrize("header", [None, {}, {"modelspec.title": "x"}])
def test_a_header_without_a_record_gives_none(header):
    assert PlannerSpec.from_metadata(header) is None


def record(**changes) -> dict[str, str]:
    return {SPEC_KEY: json.dumps({**asdict(SMALL), **changes})}


def without(key: str) -> dict[str, str]:
    return {SPEC_KEY: json.dumps({name: value for name, value in asdict(SMALL).items() if name != key})}


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({SPEC_KEY: "{"}, "planner spec must be JSON, but line 1 column 2 cannot be read"),
        ({SPEC_KEY: 3}, "planner spec must be JSON text, got 3"),
        ({SPEC_KEY: "[1]"}, "planner spec must be a JSON object, got list"),
        (record(version=7, new=1), "version must be at most 6, got 7: this file needs a newer plugin"),
        (record(version=None), "version must be a whole number from 1 to 6, got None"),
        (record(version=0), "version must be a whole number from 1 to 6, got 0"),
        (record(version=True), "version must be a whole number from 1 to 6, got True"),
        (record(version="2"), "version must be a whole number from 1 to 6, got '2'"),
        (record(version=1), "planner spec has unknown keys: fit; version 1 had none of these"),
        (record(version=2), "planner spec has unknown keys: cfg, family; version 2 had none of these"),
        (record(version=4), "planner spec has unknown keys: execution_steps; version 4 had none of these"),
        (record(version=5), "planner spec has unknown keys: goal_prompt; version 5 had none of these"),
        (record(fit="fill"), "planner spec fit must be one of letterbox, crop, stretch, got 'fill'"),
        (record(overlay_colour="time", hue=1), "unknown keys: hue, overlay_colour; known are base_model, base_shift"),
        (without("steps"), "planner spec lacks the keys steps"),
        (record(rows=0), "planner spec rows must be a whole number of at least 1, got 0"),
        (record(rows=100, cols=100), "planner spec cell_height and cell_width: grid must have at most 4096 cells"),
        (record(cell_width=20), "planner spec cell_height and cell_width: cells must have sides that divide by 16"),
        (
            record(order="spiral"),
            "planner spec order must be one of serpentine, raster, column_serpentine, shuffled, got 'spiral'",
        ),
        (record(modes=[]), r"planner spec modes must be one or more of text, trajectory, both, goal, .*, got \[\]"),
        (record(modes="text"), "planner spec modes must be one or more of"),
        (record(modes=["text", "video"]), "planner spec modes must be one or more of"),
        (record(condition_tokens="all"), "planner spec condition_tokens must be one of full_grid, first_cell"),
        (record(position_ids="uxo"), "planner spec position_ids must be one of clone, kontext, fold"),
        (record(overlay="dots"), "planner spec overlay must be one of gradient, arrows_bridge, arrows_rt1"),
        (record(overlay_color_by="x"), "planner spec overlay_color_by must be one of time, arc"),
        (record(text_prompt="go"), "planner spec text_prompt must contain {instruction} exactly once, got 'go'"),
        (record(both_prompt=4), "planner spec both_prompt must be text, got 4"),
        (record(trajectory_prompt="{instruction}"), "planner spec trajectory_prompt must not contain {instruction}"),
        (record(goal_prompt="{instruction}"), "planner spec goal_prompt must not contain {instruction}"),
        (record(base_model=" "), "planner spec base_model must name a model"),
        (record(base_shift="1"), "planner spec base_shift must be a finite number, got '1'"),
        (record(max_shift=math.nan), "planner spec max_shift must be a finite number, got nan"),
        (record(guidance=-1), "planner spec guidance must be 0 or more, got -1"),
        (record(shift_counts_condition=1), "planner spec shift_counts_condition must be true or false, got 1"),
        (record(family="flux3"), "planner spec family must be one of flux1, flux2, got 'flux3'"),
        (record(family=None), "planner spec family must be one of flux1, flux2, got None"),
        (record(cfg=0.5), "planner spec cfg must be 1 or more, got 0.5"),
        (record(cfg="4"), "planner spec cfg must be a finite number, got '4'"),
        (record(base_shift=None), "planner spec base_shift must have a value, got null"),
        (record(base_model=None), "planner spec base_model must have a value, got null"),
        (record(steps=2.5), "planner spec steps must be a whole number of at least 1, got 2.5"),
        (record(execution_steps=0), "planner spec execution_steps must be a whole number of at least 1, got 0"),
        (record(execution_steps=True), "planner spec execution_steps must be a whole number of at least 1, got True"),
        (record(execution_steps=20_000), "planner spec execution_steps must be .*10000, got 20000"),
        (record(execution_steps=None), "planner spec execution_steps must have a value, got null"),
        (without("execution_steps"), "planner spec lacks the keys execution_steps"),
    ],
)
def test_a_broken_record_is_refused_by_name(header, message):
    with pytest.raises(SpecError, match=message) as caught:
        PlannerSpec.from_metadata(header)
    assert isinstance(caught.value, PlannerError) and "\n" not in str(caught.value)


def test_prompts_default_to_the_specs_own_grid():
    spec = PlannerSpec(rows=2, cols=2)
    assert all("2x2 grid of four frames" in p for p in (spec.text_prompt, spec.trajectory_prompt, spec.both_prompt))


def test_modes_are_kept_in_one_order():
    assert PlannerSpec(modes=["both", "text"]).modes == ("text", "both")


def test_sizes():
    spec = PlannerSpec(rows=2, cols=4, order="raster", cell_height=48, cell_width=64)
    assert spec.layout == GridLayout(2, 4, "raster")
    assert spec.grid_size == (96, 256)
    assert spec.cell_tokens == (3, 4)
    assert (spec.target_tokens, spec.conditioning_tokens) == (96, 96)
    assert replace(spec, condition_tokens="first_cell").conditioning_tokens == 12


def test_the_shift_counts_what_training_counted():
    released = PlannerSpec()
    line = lambda tokens: 0.5 + 0.65 * (tokens - 256) / 3840  # noqa: E731
    assert released.mu() == pytest.approx(line(5400))
    assert replace(released, shift_counts_condition=False).mu() == pytest.approx(line(2700))
    assert replace(released, condition_tokens="first_cell").mu() == pytest.approx(line(3000))


def test_the_tiny_planners_shift_is_five():
    assert SMALL.grid_size == (192, 192)
    assert math.exp(SMALL.mu()) == pytest.approx(5.0)
    assert SMALL.conditioning_tokens == 16


@pytest.mark.parametrize(
    ("family", "grid", "overlay"),
    [("bridge", (720, 960), "arrows_bridge"), ("rt1", (768, 960), "arrows_rt1"), ("jaco", (672, 672), "arrows_bridge")],
)
def test_presets_of_the_released_weights(family, grid, overlay):
    assert len(PRESETS) == 6
    for mode in ("text", "trajectory"):
        spec = PRESETS[f"{family}_{mode}"]
        assert spec.grid_size == grid and spec.overlay == overlay and spec.modes == (mode,)
        assert (spec.order, spec.condition_tokens, spec.position_ids) == ("serpentine", "full_grid", "clone")
        assert (spec.steps, spec.guidance, spec.shift_counts_condition) == (20, 3.5, True)
        assert PlannerSpec.from_metadata(spec.to_metadata()) == spec


def test_presets_cannot_be_changed():
    with pytest.raises(TypeError):
        PRESETS["bridge_text"] = SMALL


@pytest.mark.parametrize("file", sorted(RECORDS.glob("planner_spec_v*.json")), ids=lambda file: file.stem)
def test_a_record_of_every_version_ever_written_reads(file):
    held = json.loads(file.read_text())
    spec = PlannerSpec.from_metadata({SPEC_KEY: file.read_text()})
    assert spec.version == SPEC_VERSION
    now = json.loads(spec.to_metadata()[SPEC_KEY])
    assert {name: now[name] for name in held if name != "version"} == {k: v for k, v in held.items() if k != "version"}
    assert PlannerSpec.from_metadata(spec.to_metadata()) == spec


def test_there_is_a_record_of_every_version():
    assert {file.stem for file in RECORDS.glob("planner_spec_v*.json")} == {
        f"planner_spec_v{version}" for version in range(1, SPEC_VERSION + 1)
    }


def test_the_first_version_did_not_say_the_fit():
    assert PlannerSpec.from_metadata({SPEC_KEY: (RECORDS / "planner_spec_v1.json").read_text()}).fit == "letterbox"


def test_until_the_second_version_there_was_one_family():
    for version in (1, 2):
        spec = PlannerSpec.from_metadata({SPEC_KEY: (RECORDS / f"planner_spec_v{version}.json").read_text()})
        assert (spec.base_family, spec.cfg) == (FLUX1, 1.0)


def test_until_the_third_version_frames_were_evenly_spaced():
    for version in (1, 2, 3):
        spec = PlannerSpec.from_metadata({SPEC_KEY: (RECORDS / f"planner_spec_v{version}.json").read_text()})
        assert spec.keyframes == "time"
    with pytest.raises(SpecError, match="planner spec keyframes must be one of time, shape, got 'often'"):
        PlannerSpec(keyframes="often")


def test_until_the_fourth_version_plans_were_executed_with_the_steps_they_are_looked_at_with():
    for version in (1, 2, 3, 4):
        spec = PlannerSpec.from_metadata({SPEC_KEY: (RECORDS / f"planner_spec_v{version}.json").read_text()})
        assert spec.execution_steps == spec.steps
    newer = PlannerSpec.from_metadata({SPEC_KEY: (RECORDS / "planner_spec_v5.json").read_text()})
    assert (newer.steps, newer.execution_steps) == (20, 4)


def test_until_the_fifth_version_no_planner_had_a_goal():
    for version in range(1, 6):
        spec = PlannerSpec.from_metadata({SPEC_KEY: (RECORDS / f"planner_spec_v{version}.json").read_text()})
        assert not spec.has_goal and "goal picture" in spec.prompt("goal")
    newer = PlannerSpec.from_metadata({SPEC_KEY: (RECORDS / "planner_spec_v6.json").read_text()})
    assert newer.has_goal and newer.prompt("goal") == "nine frames of the robot to the goal"


@pytest.mark.parametrize(("modes", "goal", "path"), [
    (("text",), False, False), (("text", "trajectory"), False, True), (("goal",), True, False),
    (("text", "text_goal"), True, False), (("both_goal",), True, True),
])  # fmt: skip
def test_a_planner_that_knows_goals_has_room_for_one_in_every_mode(modes, goal, path):
    spec = PlannerSpec(cell_height=32, cell_width=48, modes=modes, condition_tokens="first_cell_cached")
    assert (spec.has_goal, spec.has_path) == (goal, path)
    cells = 2 if goal else 1
    assert spec.condition_size == (32, 48 * cells)
    assert spec.condition_latent_shape == (16, 4, 6 * cells)
    assert spec.conditioning_tokens == 6 * cells
    full = replace(spec, condition_tokens="full_grid")
    assert (full.condition_size, full.conditioning_tokens) == (full.grid_size, full.target_tokens)


def test_execution_steps_are_the_others_unless_they_are_given():
    assert PlannerSpec(steps=12).execution_steps == 12
    assert PlannerSpec(steps=12, execution_steps=3).execution_steps == 3
    assert PlannerSpec(steps=2, execution_steps=5).execution_steps == 5


def test_specs_differ_in_what_is_trained_and_not_in_how_a_plan_is_executed():
    assert SMALL.differences(replace(SMALL, execution_steps=1)) == []
    assert SMALL.differences(replace(SMALL, rows=2, execution_steps=1, steps=9)) == ["rows", "steps"]


def test_a_family_gives_sizes_and_defaults():
    one, two = (PlannerSpec(rows=2, cols=3, cell_height=32, cell_width=48, family=name) for name in FAMILIES)
    assert (one.base_model, one.base_shift, one.max_shift) == ("black-forest-labs/FLUX.1-dev", 0.5, 1.15)
    assert (two.base_model, two.base_shift, two.max_shift) == ("black-forest-labs/FLUX.2-klein-base-4B", 2.02, 2.02)
    assert two.mu() == pytest.approx(2.02)
    assert one.latent_shape == (16, 8, 18)
    assert two.latent_shape == (128, 4, 9)
    assert one.cell_tokens == two.cell_tokens == (2, 3)  # a token is 16 px wide in both
    assert replace(two, condition_tokens="first_cell").condition_latent_shape == (128, 2, 3)
    assert replace(two, base_shift=0.3).base_shift == 0.3
    assert FLUX1.token_px == FLUX2.token_px == 16


def test_older_records_are_brought_up_step_by_step():
    steps = {1: lambda record: {"b": record["a"] + 1}, 2: lambda record: {"c": record["b"] + 1}}
    assert upgrade({"version": 1, "a": 1}, steps, 3, "thing", SpecError) == {"version": 3, "a": 1, "b": 2, "c": 3}
    assert upgrade({"version": 2, "b": 5}, steps, 3, "thing", SpecError) == {"version": 3, "b": 5, "c": 6}
    with pytest.raises(SpecError, match="thing version must be at most 3, got 4: this file needs a newer plugin"):
        upgrade({"version": 4}, steps, 3, "thing", SpecError)

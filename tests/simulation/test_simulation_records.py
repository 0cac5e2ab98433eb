"""Plans and cameras from files: any value in any field is taken or refused in one short line."""

import json
import math

import pytest

from simulation.camera import FRONT, Camera
from simulation.errors import SimulationError
from simulation.plans import parse_plan, read_plans
from visual_planner.errors import PlannerError, ReadoutError
from visual_planner.execution.camera import View
from visual_planner.execution.readout import READOUT_KEY, ReadoutSpec

PLAN = {
    "seed": 3, "task": "reach", "gripper": [0, 0.5, 1], "camera": FRONT.to_json(),
    "end_effector_m": [[0.4, 0, 0.1], [0.4, 0.1, 0.1], [0.4, 0.1, 0.2]],
}  # fmt: skip
VALUES = [
    None, True, "x", "x" * 10**6, -1, 0, 1e400, -1e400, math.nan, 10**400, 2**70, [], {}, [[]], [[[]]], [1, "a"],
    [None] * 3, [[1], [2], [3]],
    [[1, 2, 3]] * 10**4, [[1, 2, 3], [1, 2]], {"a": {"b": [1]}}, [True, False, True], "\x1b[2J\n",
]  # fmt: skip


def refused(read):
    try:
        read()
    except PlannerError as error:
        assert str(error).isprintable() and len(str(error)) < 600
        return True
    return False


def test_the_plan_itself_is_read():
    assert parse_plan(PLAN).keyframes.shape == (3, 4) and parse_plan(PLAN).camera == FRONT


@pytest.mark.parametrize("field", [*PLAN, "objects", "begins", "id"])
def test_any_value_of_a_plan_is_taken_or_refused_in_one_line(tmp_path, field):
    for value in VALUES:
        file = tmp_path / "plan.json"
        file.write_text(json.dumps({**PLAN, field: value}))
        harmless = (
            field in ("id", "begins") or (field == "objects" and value is None) or (field == "seed" and value == 0)
        )
        assert refused(lambda file=file: read_plans(file)) is not harmless or field == "begins", (field, value)


@pytest.mark.parametrize("field", ["eye_m", "lookat_m", "fovy_deg"])
def test_any_value_of_a_camera_is_taken_or_refused_in_one_line(field):
    for value in VALUES:
        assert refused(lambda value=value: Camera.from_json({**FRONT.to_json(), field: value})), (field, value)
    assert refused(lambda: Camera.from_json({"eye_m": [1, 1, 1], "lookat_m": [1, 1, 0], "fovy_deg": 30}))
    assert Camera.from_json(FRONT.to_json()) == FRONT


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"[" * 10**5, "must be nested at most 64 deep"),
        (b"[1e400]", "must be a JSON object with seed"),
        (b"\xff\xfe\x00", "must be UTF-8 text"),
        (b'{"seed": ' + b"9" * 5000 + b"}", "a number of more than 4300 digits"),
        (b"", "must be JSON, but line 1 column [12]"),
    ],
)
def test_a_file_that_is_no_plan_is_one_line(tmp_path, text, message):
    for name in ("plan.json", "plan.jsonl"):
        (tmp_path / name).write_bytes(text or b" " * (name == "plan.json"))
        with pytest.raises(
            SimulationError, match=message if text or name == "plan.json" else "holds no plan"
        ) as caught:
            read_plans(tmp_path / name)
        assert len(str(caught.value)) < 300


@pytest.mark.parametrize("field", list(ReadoutSpec.__dataclass_fields__))
def test_any_value_of_a_read_outs_record_is_taken_or_refused_in_one_line(field):
    record = json.loads(ReadoutSpec().to_metadata()[READOUT_KEY])
    for value in [*VALUES, {"eye_m": [0, 0, 0], "rays": [[1e300] * 3] * 3}, {"eye_m": [1], "rays": "x"}]:
        try:
            spec = ReadoutSpec.from_metadata({READOUT_KEY: json.dumps({**record, field: value})})
        except ReadoutError as error:
            assert str(error).isprintable() and len(str(error)) < 400
        else:
            assert (
                spec.height <= 1024 and spec.channels[1] <= 1024 and (spec.view is None or isinstance(spec.view, View))
            )


@pytest.mark.parametrize("metadata", [[0], "x", 3, {READOUT_KEY: 3}, {READOUT_KEY: "[" * 10**5}, {READOUT_KEY: "{}"}])
def test_a_header_that_is_none_is_one_line(metadata):
    with pytest.raises(ReadoutError) as caught:
        ReadoutSpec.from_metadata(metadata)
    assert len(str(caught.value)) < 200

"""Values from outside in messages: short, on one line, and cheap, whatever they are."""

import json
import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from visual_planner.errors import BRIEF, PlannerError, brief, listed, plain
from visual_planner.json_text import MAX_DEPTH, json_record, json_value
from visual_planner.planner.spec import PlannerSpec
from visual_planner.trajectory.parse import parse_trajectory

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner) | st.tuples(inner),
    max_leaves=30,
)  # fmt: skip


@given(ANYTHING)
def test_any_value_is_short_and_printable(value):
    text = brief(value)
    assert len(text) <= BRIEF and text.isprintable() and text


@given(st.text(), st.integers(4, 200))
def test_any_name_is_short_and_has_no_control_character(name, limit):
    text = plain(name, limit)
    assert len(text) <= limit
    assert not any(ord(letter) < 32 or letter in "\x7f\x85\u2028\u2029\u202e" for letter in text)
    assert plain("red cube", limit) == "red cube" if limit >= 8 else True


@given(
    st.none()
    | st.booleans()
    | st.integers(-(10**9), 10**9)
    | st.sampled_from(["text", 2.5, [1, "a"], (1,), {"a": [2]}])
)
def test_a_short_value_is_its_repr(value):
    assert brief(value) == repr(value)


def _bomb(depth):
    value = ["lol"] * 9
    for _ in range(depth):
        value = [value] * 9
    return value


def _deep(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


class Rude:
    def __repr__(self):
        raise RuntimeError("no")


@pytest.mark.parametrize(
    "value",
    [_bomb(12), _deep(100_000), "x" * 10**8, 10**100_000, {"k" * 10**7: 1}, dict.fromkeys(range(10**6)), Rude()],
    ids=["aliases", "deep", "long", "digits", "key", "keys", "rude"],
)  # fmt: skip
def test_a_huge_value_costs_nothing(value):
    before = time.process_time()
    assert len(brief(value)) <= BRIEF and len(listed(value if isinstance(value, dict | list) else [value])) <= 500
    assert time.process_time() - before < 1  # a bound that only work without bounds passes


def test_a_message_is_one_line_whatever_it_was_made_of():
    error = PlannerError("key \x1b[31mred\r\nerror: fine\u2028\ud800" + "x" * 10**6)
    assert str(error).startswith("key \\x1b[31mred\\r\\nerror: fine\\u2028\\ud800xxx")
    assert len(str(error)) == 600
    str(error).encode()


def test_every_problem_of_a_message_is_cut_by_itself():
    error = PlannerError("; ".join(["a" * 1000, "b", "c" * 10**6]))
    assert str(error).split("; ") == ["a" * 597 + "...", "b", "c" * 597 + "..."]
    assert len(str(PlannerError("; ".join(["short"] * 10_000)))) <= 4000


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "thing must be nested at most 64 deep, got more"),
        ("[" * 65 + "]" * 65, "thing must be nested at most 64 deep, got more"),
        ('{"a":' * 70 + "1" + "}" * 70, "thing must be nested at most 64 deep, got more"),
        ("9" * 5000, "thing must be JSON, but it has a number of more than 4300 digits"),
        (b"\xff{}", "thing must be UTF-8 text (or UTF-16 with a byte order mark), got byte 0xff at 0"),
        ('{"a" 1}', "thing must be JSON, but line 1 column 6 cannot be read: Expecting ':' delimiter"),
        ("", "thing must be JSON, but line 1 column 1 cannot be read: Expecting value"),
        (
            '{"b": {"c": 1, "d": 2, "c": 1}}',
            "thing must have each key once, but 'c' stands twice in one object",
        ),
        ('[{"\\u0061": 1, "a": 2}]', "thing must have each key once, but 'a' stands twice in one object"),
    ],
)
def test_what_is_no_json_is_said_in_one_line(text, message):
    with pytest.raises(PlannerError) as caught:
        json_value(text, "thing")
    assert str(caught.value) == message


def test_json_is_read():
    assert json_value(b'\xef\xbb\xbf[1, "a"]', "thing") == [1, "a"]
    deepest = "[" * MAX_DEPTH + "]" * MAX_DEPTH
    assert json_value(deepest, "thing") == json.loads(deepest)
    with pytest.raises(PlannerError, match="thing must be a JSON object, got list"):
        json_record("[]", "thing")


@pytest.mark.parametrize("key", ["\x1b[2J", "a\nerror: all is well", "\u202e", "x" * 10**6])
def test_keys_stand_in_messages_escaped_and_cut(key):
    record = {"version": 1, "width": 4, "height": 4, "paths": [{"points": [[0, 0], [1, 1]]}], key: 1}
    for read in (parse_trajectory, PlannerSpec.from_json):
        with pytest.raises(PlannerError, match="unknown keys") as caught:
            read(json.dumps(record))
        assert str(caught.value).isprintable() and len(str(caught.value)) < 600


@pytest.mark.parametrize("field", list(PlannerSpec.__dataclass_fields__))
@pytest.mark.parametrize(
    "value", [None, True, [["text"]], {"a": 1}, [], 1e400, -1e400, math.nan, 10**400, 2**70, "x" * 10**6, [[]] * 3, -1]
)  # fmt: skip
def test_any_value_in_any_field_of_a_record_is_taken_or_refused_in_one_line(field, value):
    record = {**json.loads(next(iter(PlannerSpec().to_metadata().values()))), field: value}
    try:
        spec = PlannerSpec.from_json(json.dumps(record))
    except PlannerError as error:
        assert str(error).isprintable() and len(str(error)) < 400 and "planner spec" in str(error)
    else:
        assert field == "shift_counts_condition" or (field.endswith("prompt") and value is None) or spec
        assert spec.target_tokens <= 2**18


@pytest.mark.parametrize(
    "change",
    [{"rows": 5000}, {"cell_height": 128_000}, {"rows": 64, "cols": 64, "cell_height": 320}, {"steps": 10**9},
     {"guidance": 1e30}, {"trajectory_prompt": "x" * 30_000}],
)  # fmt: skip
def test_a_record_has_bounds(change):
    with pytest.raises(PlannerError, match="must (have|be)"):
        PlannerSpec(**change)

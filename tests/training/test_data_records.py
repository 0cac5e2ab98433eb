"""Records of LeRobot data sets: any JSON value in any field gives the right result, or one line that names the file."""

import copy
import json
import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.data_files import INFO, config_of, lines_of, plain, png, write_lerobot, write_shard
from training.data.prepare import prepare
from training.data.sources import open_source
from training.data.sources.records import instruction_of
from training.errors import TrainingError

VALUES = [None, True, False, 0, 1, -1, 3, 2**31, 10**30, 0.5, 12.0, math.nan, math.inf, -math.inf, 1e308,
          "", " ", "x", "12", "\ud800", "\0", "push\0\0", "../../x", "\u7ea2",
          "{", "{0}", "{episode_index:0999999d}", "{episode_index!r}",
          [], [[]], [1], ["push"], ["push", 3], {}, {"a": 1}, {"dtype": "image"}, {"dtype": None}]  # fmt: skip
REMOVE = object()
EPISODES = [{"episode_index": n, "tasks": ["push"], "length": 12} for n in range(2)]
TASKS = [{"task_index": 0, "task": "push"}, {"task_index": 1, "task": "pull"}]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_lerobot(tmp_path_factory.mktemp("lerobot") / "set", EPISODES, tasks=TASKS)


def put(record, path, value):
    record = copy.deepcopy(record)
    inner = record
    for key in path[:-1]:
        inner = inner[key]
    if value is REMOVE:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return record


def paths_of(value, path=()):
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from paths_of(inner, (*path, key))


def store(folder, name, value):
    rows = [value] if name == "info.json" else value
    (folder / "meta" / name).write_text("\n".join(json.dumps(row) for row in rows) + "\n")


def read(folder):
    """Entries as (id, instruction, length) where they can be used; None if the set is refused; never a traceback."""
    try:
        source = open_source(folder, "lerobot", strict=False)
    except TrainingError as error:
        assert str(error).isprintable() and len(str(error)) < 900 and str(folder) in str(error), str(error)
        return None
    found = []
    for entry in source.entries:
        assert entry.problem.isprintable() and not set(entry.instruction) & set("\0\r\n")
        if entry.problem:
            assert str(folder) in entry.problem
            continue
        try:
            frames = source.frames(entry, [0, entry.length - 1])
            assert frames.shape == (2, 48, 64, 3)
            assert [frames[0, 0, 0, 0], frames[1, 0, 0, 0]] == [20 + 40 * int(entry.id), 31 + 40 * int(entry.id)]
            found.append((entry.id, entry.instruction, entry.length))
        except TrainingError as error:
            assert str(error).isprintable() and len(str(error)) < 900
    return found


def restored(folder):
    store(folder, "info.json", INFO)
    store(folder, "episodes.jsonl", EPISODES)
    store(folder, "tasks.jsonl", TASKS)
    return [("000000", "push", 12), ("000001", "push", 12)]


@pytest.mark.parametrize("path", list(paths_of(INFO)), ids=".".join)
def test_any_value_in_any_field_of_info(folder, path):
    whole = restored(folder)
    for value in [*VALUES, REMOVE]:
        store(folder, "info.json", put(INFO, path, value))
        found = read(folder)
        assert not found or all(row in whole for row in found), "an episode is whole or it is none"
    restored(folder)


@pytest.mark.parametrize("path", [(0, key) for key in EPISODES[0]], ids=lambda path: path[1])
def test_any_value_in_any_field_of_an_episode_concerns_it_alone(folder, path):
    whole = restored(folder)
    for value in [*VALUES, REMOVE]:
        store(folder, "episodes.jsonl", put(EPISODES, path, value))
        found = read(folder)
        if path[1] == "episode_index" and value in (1, True) and value is not True:
            assert found is None, "two episodes of one number are refused"
        elif path[1] == "tasks":
            assert found[1:] == whole[1:] and found[0][1] in ("push", "pull", "x", "12", "\u7ea2", "{", "{0}",
                "../../x", "{episode_index:0999999d}", "{episode_index!r}", "?")  # fmt: skip
        else:
            assert found is not None and whole[1] in found
    restored(folder)


@pytest.mark.parametrize("path", [(0, "task_index"), (0, "task"), (1, "task_index"), (1, "task")])
def test_any_value_in_any_field_of_a_task(folder, path):
    restored(folder)
    episodes = [{**row, "tasks": [0]} for row in EPISODES]
    for value in [*VALUES, REMOVE]:
        store(folder, "tasks.jsonl", put(TASKS, path, value))
        store(folder, "episodes.jsonl", episodes)
        found = read(folder)
        if path == (0, "task") and found is not None:
            text = value if isinstance(value, str) else ""
            assert all(row[1] == instruction_of(text) for row in found)
        elif path[0] == 1 and found is not None and (path[1] == "task" or value not in (0, False)):
            assert all(row[1] == "push" for row in found)
    restored(folder)


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(["info.json", "episodes.jsonl", "tasks.jsonl"]), st.randoms(use_true_random=False), JSON)
def test_drawn_records(folder, name, draw, value):
    restored(folder)
    record = {"info.json": INFO, "episodes.jsonl": EPISODES, "tasks.jsonl": TASKS}[name]
    path = draw.choice(list(paths_of(record)))
    store(folder, name, put(record, path, value))
    read(folder)
    restored(folder)


COLUMNS = {
    "episode_index": [[None, 1], ["0", "1"], [0.0, 1.0], [-1, 1], [math.nan, 1.0], [[0], [1]], [0, 0]],
    "length": [[None, 12], ["12", "12"], [12.0, 12.0], [0, 12], [2**40, 12], [math.nan, 12.0]],
    "data/chunk_index": [[None, 0], ["0", "0"], [-1, 0], [2**31, 0], [0.5, 0.0]],
    "data/file_index": [[None, 0], ["x", "y"], [7, 0]],
    "tasks": [[None, ["push"]], ["push", "push"], [[None], ["push"]], [[0], [1]], [[b"x"], [b"push"]], [[[1]], [[2]]],
              [{"a": 1}, {"a": 2}]],
}  # fmt: skip
V3 = {**INFO, "codebase_version": "v3.0", "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"}


@pytest.fixture(scope="module")
def v3(tmp_path_factory):
    """A v3 set with pictures in its tables, its episodes' rows as columns."""
    folder = write_lerobot(tmp_path_factory.mktemp("lerobot") / "set", EPISODES, V3)
    home = folder / "data" / "chunk-000"
    tables = [pq.read_table(file) for file in sorted(home.glob("episode_*.parquet"))]
    pq.write_table(pa.concat_tables(tables), home / "file-000.parquet")
    for name in ("episodes.jsonl", "tasks.jsonl"):
        (folder / "meta" / name).unlink()
    pq.write_table(pa.table({"task": ["push"], "task_index": [0]}), folder / "meta" / "tasks.parquet")
    rows = {"episode_index": [0, 1], "length": [12, 12], "data/chunk_index": [0, 0], "data/file_index": [0, 0],
            "tasks": [["push"], ["push"]]}  # fmt: skip
    (folder / "meta" / "episodes" / "chunk-000").mkdir(parents=True)
    return folder, rows


@pytest.mark.parametrize(("name", "values"), [(n, v) for n, values in COLUMNS.items() for v in [*values, None]])
def test_any_value_in_any_column_of_episodes(v3, name, values):
    folder, rows = v3
    table = {key: held for key, held in rows.items() if key != name} | ({name: values} if values else {})
    pq.write_table(pa.table(table), folder / "meta" / "episodes" / "chunk-000" / "file-000.parquet")
    found = read(folder)
    if name == "tasks" or values in ([0.0, 1.0], [12.0, 12.0]):
        assert [row[0] for row in found] == ["000000", "000001"] and all(row[1] == "push" for row in found)
    elif values in ([0, 0], None):
        assert found is None
    elif values and values[1] in (0, 1, 12):
        assert ("000001", "push", 12) in found and len(found) == 1
    else:
        assert found in ([], None)


@pytest.mark.parametrize("value", [None, 3, 0.5, math.nan, True, b"push", ["push"], {"a": "push"}, np.int64(3)])
def test_what_is_no_text_is_no_instruction(value):
    assert instruction_of(value) == ""


@pytest.mark.parametrize("broken", ["length", "table", "picture"])
def test_a_broken_episode_is_skipped_and_the_rest_is_prepared(tmp_path, broken):
    rows = [{**row, "length": None} if broken == "length" and n == 0 else row for n, row in enumerate(EPISODES)]
    column = (lambda e, s: {"bytes": b"", "path": None} if e == 0 else good(e, s)) if broken == "picture" else None
    write_lerobot(tmp_path / "set", rows, tasks=TASKS, column=column)
    if broken == "table":
        (tmp_path / "set" / "data" / "chunk-000" / "episode_000000.parquet").write_bytes(b"PAR1")
    with pytest.raises(TrainingError, match="1 of 2 episodes cannot be used"):
        prepare(config_of(tmp_path, tmp_path / "set"))
    prepare(config_of(tmp_path, tmp_path / "set", broken="skip"))
    assert [line["episode"] for line in lines_of(tmp_path)] == ["000001"]


def good(episode, step):
    return {"bytes": png(plain(20 + 40 * episode + step)), "path": None}


TEXT = [ord(letter) for letter in "push the \u7ea2 cube"]


@pytest.mark.parametrize(
    ("features", "text"),
    [
        ({"steps/observation/instruction": [*(TEXT + [0] * (20 - len(TEXT))), *(TEXT + [0] * (20 - len(TEXT)))]},
         "push the \u7ea2 cube"),
        ({"steps/language_instruction": [b"", b""], "steps/language_instruction_2": [b"pull", b"pull"]}, "pull"),
        ({"steps/language_instruction": [b"push\0\0\0", b"push\0\0\0"]}, "push"),
        ({"steps/language_instruction": ["\u7ea2\nx".encode(), b""]}, "\u7ea2 x"),
        ({"steps/language_instruction": [1, 2]}, ""),
        ({}, ""),
    ],
)  # fmt: skip
def test_instructions_of_rlds(tmp_path, features, text):
    steps = {"steps/observation/image": [png(plain(shade)) for shade in (20, 60)]}
    write_shard(tmp_path / "x-train.tfrecord-00001-of-00003", [{**steps, **features}])
    source = open_source(tmp_path)
    assert [(entry.instruction, entry.problem) for entry in source.entries] == [(text, "")]
    assert any("2 of 3 shards of" in note and "00000, 00002" in note for note in source.notes)


def test_bytes_that_are_no_text_are_a_broken_episode(tmp_path):
    steps = {"steps/observation/image": [png(plain(20))] * 2}
    bad, fine = ({**steps, "steps/language_instruction": [text] * 2} for text in ("\u7ea2".encode("gbk"), b"push"))
    write_shard(tmp_path / "x-train.tfrecord-00000-of-00001", [bad, fine])
    source = open_source(tmp_path, strict=False)
    assert "is not UTF-8 text" in source.entries[0].problem and source.entries[1].instruction == "push"

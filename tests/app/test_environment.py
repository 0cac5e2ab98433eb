"""The environment's life: made, reused, seen to be broken, mended, remade. Real venv and pip, wheels from a folder."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from launcher import environment as environment_module
from launcher.environment import LOCK_FILE, NO_DEPS_FILE, Environment, check_python
from launcher.errors import LauncherError
from launcher.installer import explain, pip_settings, progress, uv_index_arguments
from launcher.packages import Pin, find_faults, normalise, read_pins, requirement_of, site_packages
from support.wheels import write_wheel


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with wheels, lock files and a finished environment `.venv`, made once; tests work on copies of it.

    Beside it in `new`: the environment as it was before anything was installed.
    """
    folder = tmp_path_factory.mktemp("project")
    wheels = folder / "wheels"
    wheels.mkdir()
    write_wheel(wheels, "alpha", "1.0")
    write_wheel(wheels, "alpha", "2.0")
    write_wheel(wheels, "beta", "1.5", requires=("absent-package>=9",))
    (folder / "lock.txt").write_text("# a comment\nalpha==1.0\n")
    (folder / "no-deps.txt").write_text("beta==1.5  # its dependency is not wanted\n")
    create = Environment._create

    def keep_a_copy(environment: Environment) -> None:
        create(environment)
        shutil.copytree(environment.folder, folder / "new", symlinks=True)

    with pytest.MonkeyPatch.context() as patch:
        offline(patch, wheels)
        patch.setattr(Environment, "_create", keep_a_copy)
        describe(folder).ensure()
    return folder


def offline(patch: pytest.MonkeyPatch, wheels: Path) -> None:
    patch.setenv("PIP_NO_INDEX", "1")
    patch.setenv("PIP_FIND_LINKS", str(wheels))
    patch.setenv("PIP_CONFIG_FILE", "/dev/null")


def describe(folder: Path, **settings) -> Environment:
    return Environment(
        folder / ".venv", folder / "lock.txt", folder / "no-deps.txt", folder / "cache", disk_needed_gb=0.1, **settings
    )


@pytest.fixture
def project(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the finished project that a test may break. uv is in it, as in every environment that is finished."""
    copy = shutil.copytree(made, tmp_path / "copy", ignore=shutil.ignore_patterns("new", ".venv"))
    # Hard links: installers replace files, they do not write into them.
    shutil.copytree(made / ".venv", copy / ".venv", symlinks=True, copy_function=os.link)
    found = Path(sys.executable).with_name("uv")
    assert found.is_file(), "uv is pinned, so it is beside this Python"
    write_program(copy / ".venv" / "bin" / "uv", f'exec "{found}" "$@"')
    offline(monkeypatch, copy / "wheels")
    return copy


def write_program(file: Path, commands: str) -> None:
    file.write_text(f"#!/bin/sh\n{commands}\n")
    file.chmod(0o755)


@pytest.fixture
def pip_alone(project: Path) -> None:
    """No uv in the project's environment."""
    (project / ".venv" / "bin" / "uv").unlink()


@pytest.fixture
def quickly_made(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new environment is a copy of one: making it takes Python and pip ten seconds, and `made` was made so."""

    def copy(environment: Environment) -> None:
        shutil.copytree(made / "new", environment.folder, symlinks=True, copy_function=os.link)

    monkeypatch.setattr(Environment, "_create", copy)


def versions(environment: Environment) -> str:
    code = "import alpha, beta; print(alpha.VERSION, beta.VERSION)"
    return subprocess.run([environment.python, "-I", "-c", code], capture_output=True, text=True).stdout.strip()


def test_a_fresh_environment_holds_the_pins_and_is_ready(made: Path) -> None:
    environment = describe(made)
    assert environment.fault() is None
    assert versions(environment) == "1.0 1.5"
    stamp = json.loads((made / ".venv" / "visual_planner.json").read_text())
    assert stamp["fingerprint"] == environment.fingerprint()


def test_a_ready_environment_is_used_as_it_is(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = describe(project)

    def refuse() -> None:
        raise AssertionError("a ready environment was prepared again")

    monkeypatch.setattr(environment, "_prepare", refuse)
    assert environment.ensure() == environment.python


def test_an_interrupted_installation_is_seen_and_finished(project: Path) -> None:
    environment = describe(project)
    environment.stamp_file.unlink()
    shutil.rmtree(site_packages(environment.folder) / "beta")
    shutil.rmtree(site_packages(environment.folder) / "beta-1.5.dist-info")
    assert "incomplete" in environment.fault()
    environment.ensure()
    assert versions(environment) == "1.0 1.5"
    assert environment.fault() is None


def test_changed_pins_are_installed(project: Path) -> None:
    (project / "lock.txt").write_text("alpha==2.0\n")
    environment = describe(project)
    assert "have changed" in environment.fault()
    environment.ensure()
    assert versions(environment) == "2.0 1.5"


def test_a_package_that_lost_its_files_is_installed_again(project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    environment = describe(project)
    shutil.rmtree(site_packages(environment.folder) / "alpha")
    assert environment.fault() == "alpha==1.0: its file alpha/__init__.py is missing"
    environment.ensure()
    assert versions(environment) == "1.0 1.5"
    assert "alpha/__init__.py is missing" in capfd.readouterr().err


@pytest.mark.parametrize("damage", ["no python", "python does not run", "empty folder", "no pip"])
def test_a_broken_environment_is_remade(project: Path, damage: str, quickly_made: None) -> None:
    environment = describe(project)
    marker = environment.folder / "marker"
    marker.touch()
    if damage == "no python":
        environment.python.unlink()
    elif damage == "python does not run":
        environment.stamp_file.unlink()
        environment.python.unlink()
        write_program(environment.python, "exit 3")
    elif damage == "empty folder":
        shutil.rmtree(environment.folder)
        environment.folder.mkdir()
    elif damage == "no pip":
        environment.stamp_file.unlink()
        for leftover in site_packages(environment.folder).glob("pip*"):
            shutil.rmtree(leftover)
    environment.ensure()
    assert versions(environment) == "1.0 1.5"
    assert not marker.exists()


def test_a_folder_that_is_no_environment_is_left_alone(project: Path) -> None:
    environment = describe(project)
    shutil.rmtree(environment.folder)
    environment.folder.mkdir()
    (environment.folder / "thesis.txt").write_text("do not delete")
    with pytest.raises(LauncherError, match=r"is not a virtual environment: move it away"):
        environment.ensure()
    assert (environment.folder / "thesis.txt").read_text() == "do not delete"


def test_a_package_that_cannot_be_had_gives_one_line_and_no_stamp(project: Path) -> None:
    (project / "lock.txt").write_text("gamma==3.0\n")
    environment = describe(project)
    with pytest.raises(LauncherError, match=r"the packages cannot be installed: .*gamma==3\.0") as caught:
        environment.ensure()
    assert "\n" not in str(caught.value)
    assert not environment.stamp_file.exists()
    assert "gamma" in (project / "cache" / "logs" / "environment.log").read_text()


def test_too_little_disk_is_said_before_anything_is_made(project: Path) -> None:
    environment = describe(project)
    shutil.rmtree(environment.folder)
    environment.disk_needed_gb = 1e9
    with pytest.raises(LauncherError, match=r"needs 1000000000 GB of free disk in .*, \d+\.\d GB are free"):
        environment.ensure()
    assert not environment.folder.exists()


@pytest.mark.parametrize(("free_gb", "keeps"), [(5.0, False), (7.0, True)])
def test_downloads_are_cached_only_where_there_is_room(
    project: Path, pip_alone: None, monkeypatch: pytest.MonkeyPatch, free_gb: float, keeps: bool
) -> None:
    (project / "lock.txt").write_text("alpha==2.0\n")
    monkeypatch.setattr(Environment, "_free_gb", lambda self: free_gb)
    environment = describe(project)
    environment.ensure()
    commands = (project / "cache" / "logs" / "environment.log").read_text()
    assert ("--no-cache-dir" not in commands.split("--requirement")[-2]) == keeps
    assert versions(environment) == "2.0 1.5"


def test_two_commands_at_once_prepare_it_once(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "lock.txt").write_text("alpha==2.0\n")
    prepared = []
    original = Environment._prepare

    def counted(self: Environment) -> None:
        prepared.append(1)
        original(self)

    monkeypatch.setattr(Environment, "_prepare", counted)
    threads = [threading.Thread(target=describe(project).ensure) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert prepared == [1]
    assert versions(describe(project)) == "2.0 1.5"


def test_another_python_is_refused_with_the_range() -> None:
    check_python((3, 11), "python3")
    check_python((3, 14), "python3")
    with pytest.raises(LauncherError, match=r"Python must be 3\.11 to 3\.14 .*, this is 3\.9 \(/usr/bin/python3\)"):
        check_python((3, 9), "/usr/bin/python3")


def test_the_environment_of_the_running_python_is_not_deleted(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = describe(project)
    environment.stamp_file.unlink()
    monkeypatch.setattr(environment_module.sys, "prefix", str(environment.folder))
    monkeypatch.setattr(environment, "_package_fault", lambda: "alpha==1.0: broken for good")
    with pytest.raises(LauncherError, match="start run.py with python3"):
        environment.ensure()
    assert environment.folder.exists()


def test_lock_files_hold_pins_alone(tmp_path: Path) -> None:
    pins = read_pins(LOCK_FILE) + read_pins(NO_DEPS_FILE)
    names = [normalise(pin.name) for pin in pins]
    assert len(names) > 60
    assert len(set(names)) == len(names)
    assert {"uv", "torch", "torchvision", "transformers", "comfyui-frontend-package", "dm-control", "pytest"} <= set(
        names
    )
    loose = tmp_path / "loose.txt"
    loose.write_text("numpy>=2\n")
    with pytest.raises(ValueError, match=r"loose.txt line 1 must be name==version, got 'numpy>=2'"):
        read_pins(loose)


def test_this_environment_has_what_the_lock_files_say() -> None:
    pins = read_pins(LOCK_FILE) + read_pins(NO_DEPS_FILE)
    faults = find_faults(site_packages(Path(sys.prefix)), pins)
    assert faults == {}


def test_another_build_of_a_pinned_version_is_accepted(tmp_path: Path) -> None:
    info = tmp_path / "torch-2.14.1+cpu.dist-info"
    info.mkdir()
    (info / "RECORD").write_text("torch-2.14.1+cpu.dist-info/RECORD,,\n")
    assert find_faults(tmp_path, [Pin("torch", "2.14.1")]) == {}
    assert find_faults(tmp_path, [Pin("torch", "2.14.0")]) == {
        Pin("torch", "2.14.0"): "version 2.14.1+cpu is installed"
    }


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("Collecting numpy==2.4.6 (from -r lock.txt (line 3))", "2 of 9, numpy==2.4.6"),
        ("Processing /opt/wheels/numpy-2.4.6-cp311.whl (from -r lock.txt)", "2 of 9, numpy-2.4.6-cp311.whl"),
        ("  Downloading torch-2.14.1-cp311-manylinux.whl (915.2 MB)", "2 of 9, downloading torch (915.2 MB)"),
        ("Installing collected packages: a, b", "unpacking (a minute or two)"),
        ("WARNING: something else", None),
        ("Resolved 138 packages in 1.83s", "resolved 138 packages in 1.83s"),
    ],
)
def test_pips_output_becomes_progress(line: str, expected: str | None) -> None:
    assert progress(line, 2, 9) == expected


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (
            ["ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device"],
            "the disk is full",
        ),
        (["WARNING: Retrying", "NewConnectionError: x", "ERROR: No matching distribution"], "no network"),
        (["ERROR: No matching distribution found for gamma==3.0"], "gamma==3.0"),
        (["error: failed to write: No space left on device (os error 28)"], "the disk is full"),
        (["error: Request failed", "  Caused by: dns error"], "no network"),
        (
            ["error: Failed to download", "  Hash mismatch for `alpha==1.0`"],
            "does not have the pinned hash: Hash mismatch",
        ),
        ([], "printed nothing"),
    ],
)
def test_pip_is_explained_in_one_line(lines: list[str], expected: str) -> None:
    assert expected in explain(lines)
    assert "\n" not in explain(lines)


def hashed(wheels: Path, name: str, version: str) -> str:
    digest = hashlib.sha256(next(wheels.glob(f"{name}-{version}-*.whl")).read_bytes()).hexdigest()
    return f"{name}=={version} \\\n    --hash=sha256:{digest}\n"


@pytest.fixture(params=["uv", "pip"])
def tool(request: pytest.FixtureRequest, project: Path) -> str:
    """uv in the project's environment, as a pin of it would bring it; or pip alone."""
    if request.param == "pip":
        request.getfixturevalue("pip_alone")
    return request.param


def test_hashes_are_checked(project: Path, tool: str) -> None:
    (project / "lock.txt").write_text("# made\n" + hashed(project / "wheels", "alpha", "2.0"))
    environment = describe(project)
    environment.ensure()
    assert versions(environment) == "2.0 1.5"
    log = (project / "cache" / "logs" / "environment.log").read_text()
    assert ("/uv pip install" in log) == (tool == "uv") and "--require-hashes" in log


def test_a_file_of_another_hash_is_not_installed(project: Path, tool: str) -> None:
    text = hashed(project / "wheels", "alpha", "2.0")
    (project / "lock.txt").write_text(re.sub("sha256:.{8}", "sha256:00000000", text))
    environment = describe(project)
    with pytest.raises(LauncherError, match="hash") as caught:
        environment.ensure()
    assert "\n" not in str(caught.value)
    assert versions(environment) == "1.0 1.5" and not environment.stamp_file.exists()


def test_where_uv_cannot_run_pip_does_it(project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write_program(project / ".venv" / "bin" / "uv", "echo 'error: this system is not supported'\nexit 2")
    (project / "lock.txt").write_text(hashed(project / "wheels", "alpha", "2.0"))
    environment = describe(project)
    environment.ensure()
    assert versions(environment) == "2.0 1.5"
    assert "uv could not do it, pip tries" in capfd.readouterr().err


def test_every_pin_of_the_lock_files_has_hashes() -> None:
    for file in (LOCK_FILE, NO_DEPS_FILE):
        for pin in read_pins(file):
            assert "--hash=sha256:" in requirement_of(file, pin), pin
        assert "://" not in file.read_text(), "a lock file names no index"


def test_the_lock_files_hold_every_pin_that_was_asked_for() -> None:
    for file in (LOCK_FILE, NO_DEPS_FILE):
        asked = {(normalise(pin.name), pin.version) for pin in read_pins(file.with_suffix(".in"))}
        assert asked <= {(normalise(pin.name), pin.version) for pin in read_pins(file)}


def test_uv_looks_where_pip_is_told_to_look(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("UV_DEFAULT_INDEX", "UV_INDEX"):
        monkeypatch.delenv(name, raising=False)
    listed = """global.index-url='https://files.example/simple'
global.extra-index-url='file:///a/simple file:///b/simple'
:env:.index-url='https://env.example/simple'
install.find-links='/wheels'
:env:.no-index='1'"""
    assert uv_index_arguments(pip_settings(listed)) == [
        *(
            "--default-index",
            "https://env.example/simple",
            "--index",
            "file:///a/simple",
            "--index",
            "file:///b/simple",
        ),
        *("--find-links", "/wheels", "--no-index"),
    ]
    monkeypatch.setenv("UV_DEFAULT_INDEX", "https://own.example")
    assert uv_index_arguments(pip_settings(listed)) == []


def test_a_read_only_folder_is_named(project: Path) -> None:
    shutil.rmtree(project / ".venv")
    sealed = project / "sealed"
    sealed.mkdir()
    environment = describe(project)
    environment.folder = sealed / "file" / ".venv"
    (sealed / "file").write_text("")
    with pytest.raises((LauncherError, OSError)) as caught:
        environment.ensure()
    assert "sealed" in str(caught.value)

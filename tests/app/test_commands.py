"""The commands as a user types them: on the bare Python, from the README, interrupted, and in the background."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest

from launcher import bootstrap, demo
from launcher.__main__ import main
from launcher.bootstrap import clean_environment
from launcher.comfyui import ComfyUI
from launcher.options import build_parser
from launcher.paths import ROOT

pytestmark = pytest.mark.comfyui

BARE_PYTHON = getattr(sys, "_base_executable", sys.executable)
# What stands for a README command here: all tests would call themselves, and one repeat is enough of a benchmark.
SHORTER = {
    "python3 run.py test": "python3 run.py test tests/core/test_core_layout.py -q",
    "python3 run.py bench import": "python3 run.py bench import --repeats 1",
}


def readme_commands() -> list[str]:
    """Of the README, then those of the guides that run the demo."""
    pages = [(ROOT / page).read_text(encoding="utf-8") for page in ("README.md", "docs/guides/goal_pictures.md")]
    blocks = re.findall(r"```sh\n(.*?)```", "\n".join(pages), re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


COMMANDS = readme_commands()


def arguments_of(command: str, output: Path) -> list[str]:
    """The command as this machine runs it: the bare Python, results in a folder of the test."""
    for text, shorter in SHORTER.items():
        if command == text or command.startswith(f"{text} "):
            command = command.replace(text, shorter)
    words = [word.replace("output/", f"{output}/") for word in shlex.split(command)]
    interpreters = {"python3": BARE_PYTHON, ".venv/bin/python": sys.executable}
    return [interpreters[words[0]], *words[1:]]


def environment() -> dict[str, str]:
    return {**clean_environment(), "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "2")}


def run(arguments: list[str], **settings) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        arguments, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=500, **settings
    )


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stands for the README's output/ folder; later commands use what earlier ones wrote."""
    return tmp_path_factory.mktemp("output")


def test_the_readme_shows_the_main_commands() -> None:
    assert len(COMMANDS) >= 9
    starts = {" ".join(shlex.split(command)[1:3]) for command in COMMANDS}
    assert starts >= {"run.py demo", "run.py test", "run.py serve", "run.py bench"}


@pytest.fixture
def launch(comfyui: ComfyUI, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], request):
    """Runs a command of the README; returns what it printed.

    The first demo is a process as a user starts it; the others use the tests' server, since each start costs what ten
    plans cost.
    """

    def call(command: str, output: Path) -> str:
        arguments = arguments_of(command, output)
        if "run.py demo" not in command or command == FIRST_DEMO:
            result = run(arguments)
            assert result.returncode == 0, result.stderr
            return result.stdout
        server = request.getfixturevalue("comfy_server")
        monkeypatch.setattr(demo, "ComfyServer", lambda found, **settings: nullcontext(server))
        monkeypatch.chdir(ROOT)
        code = main(arguments[2:])
        printed = capfd.readouterr()
        assert code == 0, printed.err
        return printed.out

    return call


FIRST_DEMO = next(command for command in COMMANDS if "run.py demo" in command)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("command", [pytest.param(text, id=text[:48]) for text in COMMANDS if "serve" not in text])
def test_a_command_of_the_readme(command: str, output: Path, launch: Callable[[str, Path], str]) -> None:
    printed = launch(command, output)
    for written in re.findall(r"(?:--out|--json) (\S+)", command):
        path = output / written.removeprefix("output/")
        assert path.exists(), f"{command} wrote no {written}"
        if "run.py demo" in command:
            assert sorted(entry.name for entry in path.iterdir()) == ["frames", "grid.png", "plan.mp4", "report.json"]
            report = json.loads((path / "report.json").read_text())
            # Not "load": on the shared server the planner stays loaded from plan to plan.
            assert report["seconds"].keys() >= {"server_start", "sample", "run"}
            assert str(path / "plan.mp4") in printed
        elif "run.py bench import" in command:
            result = json.loads(path.read_text())
            assert result["ratios"].keys() == {"import/empty_pack", "import/comfyui_itself"}
            assert result["benchmarks"]["import"]["notes"] == {"heavy packages that the plugin imported": "none"}
    assert leftover_servers() == []


def test_files_that_the_readme_names_are_there() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    workflows = re.findall(r"`(?:workflows/)?(\w+\.json)`", text)
    assert len(links) >= 6
    assert len(workflows) >= 5
    missing = [name for name in links if not (ROOT / name).exists()]
    missing += [name for name in workflows if name != "report.json" and not (ROOT / "workflows" / name).exists()]
    assert missing == []


def test_serving_until_ctrl_c() -> None:
    command = [BARE_PYTHON, "run.py", "serve", "--no-browser", "--port", "18188"]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            first = process.stdout.readline()
            url = re.search(r"http://127\.0\.0\.1:\d+", first)
            assert url, first + process.stderr.read()
            with urllib.request.urlopen(f"{url[0]}/object_info", timeout=30) as answer:
                nodes = json.load(answer)
            with urllib.request.urlopen(f"{url[0]}/userdata?dir=workflows&recurse=true", timeout=30) as answer:
                listed = json.load(answer)
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=60)
    assert process.returncode == 0
    assert "VisualPlannerCondition" in nodes
    ours = {f"visual_planner/{file.name}" for file in (ROOT / "workflows").glob("*.json")}
    assert len(ours) >= 3
    assert ours <= {name.replace("\\", "/") for name in listed}
    assert leftover_servers() == []


def test_a_demo_that_stays_open(tmp_path: Path) -> None:
    command = [BARE_PYTHON, "run.py", "demo", "--steps", "1", "--out", str(tmp_path / "out"), "--serve"]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            lines = [process.stdout.readline() for _ in range(5)]
            url = re.search(r"ComfyUI stays open at (http://127\.0\.0\.1:\d+)", lines[-1])
            assert url, lines
            with urllib.request.urlopen(f"{url[1]}/history", timeout=30) as answer:
                assert len(json.load(answer)) == 1
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=60)
    assert process.returncode == 0
    assert (tmp_path / "out" / "plan.mp4").is_file()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    command = [BARE_PYTHON, "run.py", "demo", "--out", str(tmp_path / "out")]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        deadline = time.monotonic() + 120
        while not leftover_servers(process.pid) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert leftover_servers(process.pid), "no server was started"
        process.send_signal(number)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143}[number]
    assert "Traceback" not in stderr
    assert list(tmp_path.iterdir()) == []
    assert leftover_servers(process.pid) == []


def leftover_servers(parent: int | None = None) -> list[int]:
    """Process ids of ComfyUI servers: those of one launcher, or those whose launcher is gone."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
            ppid = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
        is_server = any(word.endswith(b"main.py") for word in words) and b"--base-directory" in words
        if is_server and ppid == (parent if parent is not None else 1):
            found.append(int(folder.name))
    return found


def test_help_needs_no_environment(tmp_path: Path) -> None:
    for command in ("demo", "serve", "bench"):
        text = run([BARE_PYTHON, "-S", "run.py", command, "--help"]).stdout
        assert text.startswith(f"usage: run.py {command}")
    assert run([BARE_PYTHON, "run.py", "dance"]).returncode == 2
    assert run([BARE_PYTHON, "run.py", "demo", "--steps", "none"]).returncode == 2


def test_what_is_compiled_is_kept_even_where_python_may_not_write_beside_the_sources(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap, "CACHE", tmp_path)
    monkeypatch.delenv("PYTHONPYCACHEPREFIX", raising=False)
    (tmp_path / "chosen.py").write_text("")
    for value, place in (("", tmp_path), ("1", tmp_path / "bytecode")):
        monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", value)
        subprocess.run([BARE_PYTHON, "-c", "import chosen"], cwd=tmp_path, env=clean_environment(), check=True)
        (compiled,) = tmp_path.rglob("chosen.*.pyc")
        assert compiled.is_relative_to(place / ("__pycache__" if not value else ""))
        compiled.unlink()
    monkeypatch.setenv("PYTHONPYCACHEPREFIX", "/elsewhere")
    assert clean_environment()["PYTHONPYCACHEPREFIX"] == "/elsewhere"


def test_the_first_half_needs_the_standard_library_alone() -> None:
    code = "import launcher.bootstrap, sys; print([m for m in sys.modules if 'site-packages' in str(sys.modules[m])])"
    result = run([BARE_PYTHON, "-S", "-c", code])
    assert (result.returncode, result.stdout.strip()) == (0, "[]"), result.stderr


def test_an_old_python_is_told_what_is_needed() -> None:
    source = (ROOT / "run.py").read_text(encoding="utf-8")
    old = source.replace("OLDEST, NEWEST = (3, 11), (3, 14)", "OLDEST, NEWEST = (9, 0), (9, 1)")
    assert old != source
    result = run([BARE_PYTHON, "-c", old])
    assert result.returncode == 1
    assert re.match(r"error: Python must be 9\.0 to 9\.1, this is 3\.\d+ \(.*\): install one of these", result.stderr)
    assert result.stderr.count("\n") == 1
    # Old Pythons must be able to read the page before they can refuse it.
    compile(source.split("from launcher")[0], "run.py", "exec", dont_inherit=True)


def test_options_of_the_test_command_go_to_pytest() -> None:
    options = build_parser().parse_args(["test", "-k", "grid and not plan", "-x", "--lf", "tests/core"])
    assert options.arguments == ["-k", "grid and not plan", "-x", "--lf", "tests/core"]

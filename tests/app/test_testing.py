"""`run.py test`: arguments are sorted into tiers, and one line closes the run."""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path

import pytest

from launcher import testing
from launcher.testing import run_tests, split_arguments, summary_line, tier_paths

PASSING = "def test_one():\n    pass\n"
FAILING = "def test_two():\n    assert 1 == 2\n"
SKIPPED = "import pytest\n\n@pytest.mark.skip(reason='later')\ndef test_three():\n    pass\n"


@pytest.fixture
def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty tests/ folder in the place of ours."""
    for name in ("core", "app"):
        (tmp_path / name).mkdir()
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    monkeypatch.setattr(testing, "TESTS", tmp_path)
    # Plugins of other packages triple a pytest's start (Hypothesis); these tests are about ours, which `-p` names.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.delenv(testing.NO_SKIP_VARIABLE, raising=False)  # set where this suite itself runs in CI
    return tmp_path


def last_line(text: str) -> str:
    return text.strip().splitlines()[-1].strip("= ")


def test_all_tiers_end_in_one_line(suite: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (suite / "core" / "test_core.py").write_text(PASSING + SKIPPED)
    (suite / "app" / "test_app.py").write_text(PASSING)
    assert run_tests([]) == 0
    output = capfd.readouterr().out
    assert re.fullmatch(r"2 passed, 1 skipped in \d+\.\d\ds", last_line(output))
    assert len(re.findall(r"\d+ passed", output)) == 1


def test_a_failure_in_any_tier_is_a_failure(suite: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (suite / "core" / "test_core.py").write_text(FAILING)
    (suite / "app" / "test_app.py").write_text(PASSING)
    assert run_tests([]) == 1
    output = capfd.readouterr().out
    assert re.fullmatch(r"1 failed, 1 passed in \d+\.\d\ds", last_line(output))
    assert re.search(r"^app +1 tests +\d+\.\d s +\d+\.\d s CPU$", output, re.MULTILINE)


def test_tiers_run_side_by_side(suite: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Each waits for the other: one after the other would not end."""
    code = """import pathlib, time

def test_meets():
    here = pathlib.Path(__file__).parent
    (here / "here").touch()
    other = here.parent / "{other}" / "here"
    for _ in range(600):
        if other.exists():
            return
        time.sleep(0.1)
    raise AssertionError("the other tier is not running")
"""
    (suite / "core" / "test_core.py").write_text(code.format(other="app"))
    (suite / "app" / "test_app.py").write_text(code.format(other="core"))
    assert run_tests([]) == 0
    output = capfd.readouterr().out
    assert output.index("core tests:") < output.index("app tests:")
    assert last_line(output).startswith("2 passed in")


@pytest.mark.skipif(not hasattr(os, "getpriority"), reason="no priorities on this system")
def test_tiers_have_the_cpu_in_their_order(suite: Path) -> None:
    """A tier alone has no reason to step back."""
    assert set(testing.PRIORITY) == set(testing.TIERS)
    code = "import os, pathlib\n\ndef test_it():\n    pathlib.Path(__file__).with_suffix('.txt')"
    code += ".write_text(str(os.getpriority(os.PRIO_PROCESS, 0)))\n"
    tiers = [name for name in testing.PRIORITY if (suite / name).is_dir()]
    for name in tiers:
        (suite / name / f"test_{name}.py").write_text(code)
    told = [suite / name / f"test_{name}.txt" for name in tiers]
    assert run_tests([]) == 0
    first, second = (int(file.read_text()) for file in told)
    assert os.getpriority(os.PRIO_PROCESS, 0) < first < second <= 19
    assert run_tests([str(suite / tiers[1])]) == 0
    assert int(told[1].read_text()) == os.getpriority(os.PRIO_PROCESS, 0)


def test_a_skipped_test_fails_where_none_may_be(
    suite: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (suite / "core" / "test_core.py").write_text(PASSING + SKIPPED)
    monkeypatch.setenv(testing.NO_SKIP_VARIABLE, "1")
    assert run_tests([]) == 1
    assert "1 skipped tests: none may be skipped here" in capfd.readouterr().out


def test_tests_compute_with_one_thread(suite: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    code = "import os\n\ndef test_it():\n    assert os.environ['OMP_NUM_THREADS'] == '1'\n"
    (suite / "core" / "test_core.py").write_text(code)
    assert run_tests([]) == 0


def test_stopping_at_the_first_failure_holds_across_tiers(suite: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (suite / "core" / "test_core.py").write_text(FAILING)
    (suite / "app" / "test_app.py").write_text(PASSING)
    assert run_tests(["-x"]) == 1
    assert last_line(capfd.readouterr().out).startswith("1 failed in")


def test_a_tier_that_dies_is_an_error(suite: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (suite / "core" / "test_core.py").write_text("import os\n\ndef test_it():\n    os._exit(0)\n")
    (suite / "app" / "test_app.py").write_text(PASSING)
    assert run_tests([]) == 1
    assert last_line(capfd.readouterr().out).startswith("1 passed, 1 error in")


def test_names_select_in_all_tiers(suite: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (suite / "core" / "test_core.py").write_text(FAILING)
    (suite / "app" / "test_app.py").write_text(PASSING)
    assert run_tests(["-k", "one"]) == 0
    assert last_line(capfd.readouterr().out).startswith("1 passed, 1 deselected in")
    assert run_tests(["-k", "no_such_test"]) == 5


def test_a_path_selects_its_tier_alone(suite: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (suite / "core" / "test_core.py").write_text(FAILING)
    (suite / "app" / "test_app.py").write_text(PASSING)
    assert run_tests([str(suite / "app" / "test_app.py") + "::test_one"]) == 0
    assert last_line(capfd.readouterr().out).startswith("1 passed in")


def test_a_folder_selects_the_tiers_in_it(suite: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (suite / "app" / "test_app.py").write_text(FAILING)
    for name in ("trajectory", "workflows"):
        (suite / "browser" / name).mkdir(parents=True)
        (suite / "browser" / name / f"test_{name}.py").write_text(PASSING)
    assert run_tests([str(suite / "browser")]) == 0
    output = capfd.readouterr().out
    assert re.findall(r"^(browser/\w+) +1 tests ", output, re.MULTILINE) == ["browser/trajectory", "browser/workflows"]
    assert last_line(output).startswith("2 passed in")


def test_arguments_of_ours(monkeypatch: pytest.MonkeyPatch, repository: Path) -> None:
    monkeypatch.chdir(repository)
    selection = split_arguments(["-q", "tests/app", "-k", "tests", "--lf", "tests/app/test_testing.py::test_x"])
    assert selection.options == ["-q", "-k", "tests", "--lf"]
    tests = repository / "tests"
    assert selection.paths == [str(tests / "app"), f"{tests}/app/test_testing.py::test_x"]
    assert split_arguments(["nodes"]).paths == [], "a folder of the repository is not one of its tests"
    assert tier_paths(("core",), selection.paths) == []
    assert tier_paths(("app",), selection.paths) == selection.paths


def test_every_test_is_in_one_tier(repository: Path) -> None:
    tests = repository / "tests"
    files = list(tests.rglob("test_*.py"))
    homes = [tests / folder for tier in testing.TIERS.values() for folder in tier]
    assert files
    assert [file for file in files if sum(file.is_relative_to(home) for home in homes) != 1] == []


def test_the_line_names_every_outcome() -> None:
    line = summary_line(Counter(passed=3, failed=1, skipped=2, errors=2), 1.0).strip("= ")
    assert line == "1 failed, 3 passed, 2 skipped, 2 errors in 1.00s"
    assert summary_line(Counter(), 0.5).strip("= ") == "no tests ran in 0.50s"

"""Which browser the tests take."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from browser import chrome
from browser.chrome import NoBrowser, find_browser


@pytest.fixture
def bare_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> SimpleNamespace:
    """No browser in any place; Playwright would have its own at `tmp_path/own`."""
    monkeypatch.setattr(chrome.shutil, "which", lambda command: None)
    monkeypatch.setattr(chrome, "_usual_places", lambda: iter(()))
    return SimpleNamespace(chromium=SimpleNamespace(executable_path=str(tmp_path / "own")))


def test_without_any_browser_it_says_what_to_install(bare_machine: SimpleNamespace) -> None:
    with pytest.raises(NoBrowser, match="neither Chrome nor Chromium .*apt install chromium.* playwright install"):
        find_browser(bare_machine)


def test_playwrights_own_browser_is_the_last_resort(bare_machine: SimpleNamespace, tmp_path: Path) -> None:
    (tmp_path / "own").touch()
    assert find_browser(bare_machine) == tmp_path / "own"


@pytest.mark.parametrize("command", chrome.COMMANDS)
def test_any_installed_browser_goes_first(
    bare_machine: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: str
) -> None:
    (tmp_path / "own").touch()
    monkeypatch.setattr(chrome.shutil, "which", lambda name: f"/some/bin/{name}" if name == command else None)
    assert find_browser(bare_machine) == Path("/some/bin") / command


def test_browsers_outside_of_the_path_are_found(
    bare_machine: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "Google Chrome").touch()
    places = [tmp_path / "absent", tmp_path / "Google Chrome"]
    monkeypatch.setattr(chrome, "_usual_places", lambda: iter(places))
    assert find_browser(bare_machine) == tmp_path / "Google Chrome"

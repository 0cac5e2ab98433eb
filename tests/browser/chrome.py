"""Finds a Chrome or Chromium and starts it without a window."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Playwright

COMMANDS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "microsoft-edge")
MAC = ("Google Chrome.app/Contents/MacOS/Google Chrome", "Chromium.app/Contents/MacOS/Chromium")
WINDOWS = ("Google/Chrome/Application/chrome.exe", "Microsoft/Edge/Application/msedge.exe")
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # The editor must work without the internet, and a test must give the same with it.
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
)


class NoBrowser(Exception):
    """There is no browser to test with."""


def find_browser(playwright: Playwright) -> Path:
    """Program of a browser: any Chrome or Chromium on the machine, else Playwright's own.

    Raises:
        NoBrowser: There is neither.
    """
    for command in COMMANDS:
        if found := shutil.which(command):
            return Path(found)
    for file in _usual_places():
        if file.is_file():
            return file
    own = Path(playwright.chromium.executable_path)
    if own.is_file():
        return own
    raise NoBrowser(
        "neither Chrome nor Chromium is installed, nor Playwright's own: install one "
        f"(`apt install chromium`, or `{sys.executable} -m playwright install chromium`)"
    )


def _usual_places() -> Iterator[Path]:
    if sys.platform == "darwin":
        for folder in (Path("/Applications"), Path.home() / "Applications"):
            yield from (folder / name for name in MAC)
    elif sys.platform == "win32":
        roots = [os.environ.get(name) for name in ("PROGRAMFILES", "PROGRAMFILES(X86)", "LOCALAPPDATA")]
        yield from (Path(root) / name for root in roots if root for name in WINDOWS)


@contextmanager
def chrome() -> Iterator[Browser]:
    """A running browser.

    Raises:
        NoBrowser: There is none to start.
    """
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=find_browser(playwright), headless=True, args=list(ARGUMENTS), timeout=120_000
        )
        try:
            yield browser
        finally:
            browser.close()

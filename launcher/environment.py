"""The virtual environment `.venv`: created once from the lock files, checked at each start, repaired or recreated.

A stamp file is written last. It holds the hash of the lock files, so that an interrupted installation (no stamp) and an
outdated one (another hash) are both detected. Besides the stamp, the installed packages themselves are checked.
"""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from runtime.locks import file_lock
from runtime.writing import replacing

from .console import note
from .errors import LauncherError
from .installer import Installer
from .packages import Pin, find_faults, read_pins, site_packages
from .paths import CACHE, ROOT, VENV, venv_python

LOCK_FILE = ROOT / "requirements-lock.txt"
NO_DEPS_FILE = ROOT / "requirements-lock-no-deps.txt"
STAMP_NAME = "visual_planner.json"
PYTHON_OLDEST, PYTHON_NEWEST = (3, 11), (3, 14)
# Measured on Linux: the installed packages take 7.8 GB (torch brings CUDA).
DISK_NEEDED_GB = 8.0
# Downloads are 3 GB, and a cache would keep a second copy of them permanently.
DISK_FOR_CACHE_GB = 6.0


def check_python(version: tuple[int, int], program: str) -> None:
    """Refuse a Python for which the pinned packages have no wheels.

    Raises:
        LauncherError: The version is outside of the supported range.
    """
    if not PYTHON_OLDEST <= version <= PYTHON_NEWEST:
        have, oldest, newest = (".".join(map(str, pair)) for pair in (version, PYTHON_OLDEST, PYTHON_NEWEST))
        raise LauncherError(
            f"Python must be {oldest} to {newest} (the pinned packages are tried on these), this is {have} ({program})"
        )


class Environment:
    """A virtual environment defined by two lock files."""

    def __init__(
        self,
        folder: Path = VENV,
        lock_file: Path = LOCK_FILE,
        no_deps_file: Path = NO_DEPS_FILE,
        cache: Path = CACHE,
        disk_needed_gb: float = DISK_NEEDED_GB,
    ) -> None:
        self.folder = folder
        self.lock_files = (lock_file, no_deps_file)
        self.cache = cache
        self.disk_needed_gb = disk_needed_gb
        self.stamp_file = folder / STAMP_NAME

    @property
    def python(self) -> Path:
        """The environment's Python program."""
        return venv_python(self.folder)

    def pins(self) -> list[Pin]:
        """All pins of both lock files."""
        return [pin for file in self.lock_files for pin in read_pins(file)]

    def fingerprint(self) -> str:
        """Hash of what the environment must contain."""
        digest = hashlib.sha256()
        for file in self.lock_files:
            digest.update(file.read_bytes())
        return digest.hexdigest()

    def fault(self) -> str | None:
        """Why the environment cannot be used as it is, in a few words; None if it is ready."""
        if reason := self._python_fault():
            return reason
        try:
            stamp = json.loads(self.stamp_file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return "its installation is incomplete"
        except (ValueError, OSError, RecursionError):
            return "its stamp file cannot be read"
        if not isinstance(stamp, dict) or stamp.get("fingerprint") != self.fingerprint():
            return "the pinned packages have changed"
        return self._package_fault()

    def _python_fault(self) -> str | None:
        if not self.folder.exists():
            return "there is none yet"
        if not self.python.exists() or not (self.folder / "pyvenv.cfg").is_file():
            return "its Python is missing"
        return None

    def _package_fault(self) -> str | None:
        folder = site_packages(self.folder)
        if folder is None:
            return "its package folder is missing"
        faults = find_faults(folder, self.pins())
        if not faults:
            return None
        pin, reason = next(iter(faults.items()))
        more = f" and {len(faults) - 1} more" if len(faults) > 1 else ""
        return f"{pin}: {reason}{more}"

    def ensure(self) -> Path:
        """Create or repair the environment if needed and return its Python.

        Raises:
            LauncherError: It cannot be created here; the message says why.
        """
        if self.fault() is None:
            return self.python
        with file_lock(self.cache / "environment.lock", "preparing the environment"):
            reason = self.fault()  # another command may have created it while we waited
            if reason is None:
                return self.python
            note(f"Preparing the environment in {self.folder.name} ({reason}). This is done once.")
            self._prepare()
        return self.python

    def _prepare(self) -> None:
        self.stamp_file.unlink(missing_ok=True)
        if self._runs():
            self._install()
            if self._package_fault() is None:
                return self._write_stamp()
            if self._is_running():
                raise LauncherError("this Python belongs to the broken environment: start run.py with python3")
            note("The environment cannot be repaired; it is created again.")
        self._remove()
        self._create()
        self._install()
        if reason := self._package_fault():
            raise LauncherError(f"the environment is still broken after a fresh installation: {reason}")
        self._write_stamp()

    def _runs(self) -> bool:
        """Whether the environment's Python starts, is of a supported version and has pip."""
        if self._python_fault():
            return False
        code = "import sys, pip; print('%d.%d' % sys.version_info[:2])"
        try:
            result = subprocess.run([self.python, "-I", "-c", code], capture_output=True, text=True, timeout=60)
        except (OSError, subprocess.TimeoutExpired):
            return False
        if result.returncode != 0:
            return False
        version = tuple(int(part) for part in result.stdout.strip().split("."))
        return PYTHON_OLDEST <= version <= PYTHON_NEWEST

    def _is_running(self) -> bool:
        return self.folder.exists() and Path(sys.prefix).resolve() == self.folder.resolve()

    def _remove(self) -> None:
        if not self.folder.exists() and not self.folder.is_symlink():
            return
        is_folder = self.folder.is_dir() and not self.folder.is_symlink()
        is_venv = (self.folder / "pyvenv.cfg").exists() or self.python.exists() or site_packages(self.folder)
        if not is_folder or not (is_venv or not any(self.folder.iterdir())):
            raise LauncherError(f"{self.folder} is not a virtual environment: move it away and run the command again")
        shutil.rmtree(self.folder)

    def _create(self) -> None:
        check_python(sys.version_info[:2], sys.executable)
        free_gb = self._free_gb()
        if free_gb < self.disk_needed_gb:
            raise LauncherError(
                f"the environment needs {self.disk_needed_gb:.0f} GB of free disk in {self.folder.parent}, "
                f"{free_gb:.1f} GB are free"
            )
        result = subprocess.run([sys.executable, "-m", "venv", self.folder], capture_output=True, text=True)
        if result.returncode != 0:
            self._forget_half_made()
            if "ensurepip" in result.stdout + result.stderr:
                raise LauncherError(
                    "Python's venv module is incomplete: install it first (Debian, Ubuntu: apt install python3-venv)"
                )
            lines = (result.stderr or result.stdout).strip().splitlines() or ["no message"]
            raise LauncherError(f"the virtual environment cannot be created: {lines[-1]}")

    def _free_gb(self) -> float:
        return shutil.disk_usage(self.folder.parent).free / 1e9

    def _forget_half_made(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def _install(self) -> None:
        keep_downloads = self._free_gb() >= self.disk_needed_gb + DISK_FOR_CACHE_GB
        installer = Installer(self.python, self.cache / "logs" / "environment.log", keep_downloads)
        main, no_deps = self.lock_files
        installer.install(main)
        installer.install(no_deps, with_dependencies=False)
        # Installers trust a package's metadata; a package listed as installed that lacks files must be forced.
        folder = site_packages(self.folder)
        for file in self.lock_files:
            if folder is not None and (faults := find_faults(folder, read_pins(file))):
                installer.reinstall(file, list(faults))

    def _write_stamp(self) -> None:
        record = {
            "fingerprint": self.fingerprint(),
            "python": platform.python_version(),
            "platform": f"{sys.platform}-{platform.machine()}",
        }
        with replacing(self.stamp_file, LauncherError) as temporary:
            temporary.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")

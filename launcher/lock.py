"""Write the lock files: every pin of the .in files and its dependencies on any system, with the hashes of all files.

Run `.venv/bin/python -m launcher.lock` after changing a pin. It uses uv's default index; mirrors that pip is configured
with are not used, since they may lack files of other systems.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from .environment import LOCK_FILE, NO_DEPS_FILE, PYTHON_OLDEST
from .errors import LauncherError, exit_code_of
from .installer import uv_program

HEAD = "# Made by `python -m launcher.lock` from {source}: change that file, not this one.\n"


def main() -> int:
    """Write both lock files."""
    for lock_file, dependencies in ((LOCK_FILE, True), (NO_DEPS_FILE, False)):
        write_lock(lock_file, dependencies)
    return 0


def write_lock(lock_file: Path, dependencies: bool) -> None:
    """Write one lock file.

    Raises:
        LauncherError: uv is missing, or finds no compatible set of packages.
    """
    source = lock_file.with_suffix(".in")
    uv = uv_program(Path(sys.executable))
    if uv is None:
        raise LauncherError("uv must be installed in this environment: run `python3 run.py test --collect-only` once")
    command = [
        *(str(uv), "pip", "compile", "--universal", "--python-version", ".".join(map(str, PYTHON_OLDEST))),
        *("--generate-hashes", "--no-header", "--no-annotate", "--no-emit-index-url", "--quiet"),
        *([] if dependencies else ["--no-deps"]),
        str(source),
    ]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode != 0:
        raise LauncherError(f"{source.name} cannot be locked: {(result.stderr.strip().splitlines() or ['?'])[-1]}")
    lock_file.write_text(HEAD.format(source=source.name) + result.stdout, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(exit_code_of(main))

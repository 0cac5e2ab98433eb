"""The newer of the two frontends that the editor is tested on, fetched once."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from launcher.paths import CACHE
from runtime.locks import file_lock

VERSION = "1.58.1"
PIN = (
    f"comfyui-frontend-package=={VERSION} "
    "--hash=sha256:37912597537a731a8f421179618a736c24184c5bdbfa327f38b2fb7c291852d9\n"
)
STATIC = Path("comfyui_frontend_package/static")


def newer_frontend(cache: Path = CACHE) -> Path:
    """Folder for ComfyUI's `--front-end-root`: the one that VISUAL_PLANNER_FRONTEND names, else the fetched one.

    Raises:
        RuntimeError: it cannot be fetched.
    """
    if named := os.environ.get("VISUAL_PLANNER_FRONTEND"):
        return Path(named)
    folder = cache / f"frontend-{VERSION}"
    with file_lock(cache / "frontend.lock", "fetching the newer frontend"):
        if not folder.is_dir():
            with tempfile.TemporaryDirectory(prefix="frontend-", dir=cache) as temporary:
                pins, target = Path(temporary) / "pins.txt", Path(temporary) / "tree"
                pins.write_text(PIN, encoding="utf-8")
                command = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-input", "--no-compile"]
                command += ["--disable-pip-version-check", "--require-hashes", "--target", target, "-r", pins]
                result = subprocess.run(command, capture_output=True, text=True, errors="replace")
                if result.returncode != 0:
                    last = (result.stdout + result.stderr).strip().splitlines()[-1:]
                    raise RuntimeError(f"the frontend {VERSION} cannot be fetched: {' '.join(last)}")
                os.replace(target, folder)
    return folder / STATIC

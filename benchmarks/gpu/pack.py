"""`bench gpu --pack DIR`: everything that a GPU machine without internet needs, in one folder with a list of sizes.

The machine provides Python and torch; `start.sh` adds what is missing. Wheels go into a separate folder beside the
machine's packages, so the machine itself is not changed.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from launcher.comfyui import find_comfyui
from launcher.environment import LOCK_FILE
from launcher.errors import LauncherError
from launcher.installer import explain
from launcher.packages import normalise, read_pins
from launcher.paths import ROOT

MIB = 2**20
ROOMS = ("benchmarks", "launcher", "nodes", "runtime", "simulation", "training", "visual_planner", "worlds")
PLANNER = "models/tiny_planner"
PLANNER_FOLDERS = (
    "transformer", "vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "scheduler", "loras", "examples"
)  # fmt: skip
KINDS = (".py", ".yaml", ".json", ".txt", ".safetensors", ".png")
WHEELS = {
    "wheels": (
        "diffusers", "pydantic", "pydantic-core", "annotated-types", "typing-inspection", "importlib-metadata", "zipp",
    ),
    "wheels_more": ("bitsandbytes",),
    "wheels_bare": (
        "accelerate", "annotated-doc", "anyio", "certifi", "charset-normalizer", "click", "einops", "h11", "hf-xet",
        "httpcore2", "httpx2", "huggingface-hub", "idna", "markdown-it-py", "mdurl", "numpy", "opencv-python-headless",
        "packaging", "peft", "pillow", "psutil", "pygments", "pyyaml", "regex", "requests", "rich", "safetensors",
        "scipy", "shellingham", "tokenizers", "tqdm", "transformers", "truststore", "typer", "urllib3",
    ),
}  # fmt: skip
"""Folder -> packages: always installed; needed by one part only; for a Python that has torch and little else."""
COMFYUI_WHEELS, COMFYUI_PACKAGES = "wheels_comfyui", ("comfy-kitchen", "comfy-aimdo")
"""Folder and packages that newer versions of ComfyUI import with its models, at the versions that they pin."""
EXPECTED = (
    "numpy", "transformers", "tokenizers", "accelerate", "peft", "safetensors", "huggingface_hub", "yaml", "PIL", "cv2",
    "einops", "psutil", "scipy", "requests", "regex", "tqdm",
)  # fmt: skip
"""Modules of `wheels_bare`, which is installed if one of them is missing."""
TARGET_PYTHON, TARGET_SYSTEM = "3.12", "x86_64"
_MANYLINUX = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_24", "manylinux_2_17", "manylinux2014", "manylinux1")
CAN_STAY = (
    ("wheels_bare", "nothing on a machine that has these packages"),
    ("wheels_more", "training/flux1 nf4"),
    (f"project/{PLANNER}/loras", "nothing: parity then compares plans of the base alone"),
    (f"project/{PLANNER}", "the plans of parity, resume after a kill"),
    ("comfyui", "the parts in ComfyUI"),
    (COMFYUI_WHEELS, "the parts in ComfyUI, if it is one that needs them"),
)
"""What may be left behind, and the parts that are skipped without it."""
START = """#!/bin/sh
# Run the GPU benchmark: sh start.sh [--budget SECONDS] [--resume] [--only NAMES] [--out DIR]
# Nothing is installed into the machine's Python; packages go into the folder `site` beside this file.
here=$(cd "$(dirname "$0")" && pwd) || exit 1
site=$here/site
export PYTHONPATH="$site:$here/project" PYTHONUNBUFFERED=1
missing() {
  python3 -c 'import importlib.util as u, sys
print(*[name for name in sys.argv[1:] if u.find_spec(name) is None])' "$@"
}
add() {
  set -- "$here/$1"/*.whl
  [ -e "$1" ] || return 0
  python3 -m pip install --quiet --no-index --no-deps --no-compile --no-cache-dir --upgrade --target "$site" "$@"
}
[ -z "$(missing torch)" ] || { echo "error: $(command -v python3) must have torch, but it has none" >&2; exit 1; }
if [ ! -f "$site/complete" ]; then
  [ -z "$(missing @EXPECTED@)" ] || add wheels_bare || exit 1
  add wheels || exit 1
  add wheels_more || exit 1
  add wheels_comfyui || exit 1
  mkdir -p "$site" && touch "$site/complete" || exit 1
fi
lack=$(missing @EXPECTED@)
[ -z "$lack" ] || { echo "error: this Python lacks $lack: put wheels_bare beside start.sh" >&2; exit 1; }
[ ! -d "$here/comfyui" ] || export VISUAL_PLANNER_COMFYUI="$here/comfyui"
cd "$here/project" && exec python3 -m benchmarks.gpu "$@"
"""


def pack(folder: Path) -> str:
    """Write the folder and return the list of its contents.

    Raises:
        LauncherError: the folder is not empty, or something to be packed is not available.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise LauncherError(f"--pack must name a folder that is empty or does not exist, got {folder}")
    comfyui = find_comfyui()
    folder.mkdir(parents=True, exist_ok=True)
    rooms = [file for room in ROOMS for file in (ROOT / room).rglob("*")]
    planner = [file for name in PLANNER_FOLDERS for file in (ROOT / PLANNER / name).rglob("*")]
    _copy([*rooms, *planner, ROOT / PLANNER / "model_index.json"], ROOT, folder / "project")
    _copy((comfyui.folder / "comfy").rglob("*.py"), comfyui.folder, folder / "comfyui")
    pinned = {normalise(pin.name): str(pin) for pin in read_pins(LOCK_FILE)}
    wheels = {name: [pinned[package] for package in packages] for name, packages in WHEELS.items()}
    for name, packages in {**wheels, COMFYUI_WHEELS: comfyui_needs(comfyui.folder)}.items():
        (folder / name).mkdir()
        if packages:
            _download(packages, folder / name)
    start = folder / "start.sh"
    start.write_text(START.replace("@EXPECTED@", " ".join(EXPECTED)), encoding="utf-8")
    start.chmod(0o755)
    text = listing(folder)
    (folder / "CONTENTS.txt").write_text(text, encoding="utf-8")
    return text


def comfyui_needs(folder: Path) -> list[str]:
    """Those of `COMFYUI_PACKAGES` that the ComfyUI in a folder requires, as `name==version`."""
    file = folder / "requirements.txt"
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    wanted = [line.split("#")[0].strip() for line in lines]
    return [line for line in wanted if normalise(re.split(r"[^\w.-]", line)[0]) in COMFYUI_PACKAGES]


def listing(folder: Path) -> str:
    """What a packed folder contains, and what may be left behind."""
    wheels = (*WHEELS, COMFYUI_WHEELS)
    rows = [(name, _size(folder / name)) for name in ("project", "comfyui", *wheels)]
    lines = [f"{size / MIB:7.1f} MiB  {name}" for name, size in rows]
    lines += [f"{_size(folder) / MIB:7.1f} MiB  together", "", "may stay behind (delete it), and what is skipped then:"]
    lines += [f"{_size(folder / name) / MIB:7.1f} MiB  {name}: {lost}" for name, lost in CAN_STAY]
    for name in wheels:
        files = sorted((folder / name).glob("*.whl"))
        lines += ["", f"{name}:", *(f"{file.stat().st_size / MIB:7.1f} MiB  {file.name}" for file in files)]
    lines += ["", f"the machine brings: Python {TARGET_PYTHON} with torch on {TARGET_SYSTEM} Linux"]
    return "\n".join(lines) + "\n"


def _copy(files: Iterable[Path], base: Path, target: Path) -> None:
    """Copy files with their paths below `base`; caches and other kinds of files are left out."""
    for file in files:
        if not file.is_file() or file.suffix not in KINDS or "__pycache__" in file.parts:
            continue
        place = target / file.relative_to(base)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, place)


def _download(packages: list[str], target: Path) -> None:
    """Fetch packages (`name==version`) as wheels for the target.

    Raises:
        LauncherError: pip could not.
    """
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-input", "--dest", str(target)]
    command += ["--disable-pip-version-check", "--only-binary", ":all:", "--implementation", "cp"]
    command += ["--python-version", TARGET_PYTHON]
    command += [word for kind in _MANYLINUX for word in ("--platform", f"{kind}_{TARGET_SYSTEM}")]
    result = subprocess.run([*command, *packages], capture_output=True, text=True)
    if result.returncode != 0:
        raise LauncherError(
            f"wheels cannot be fetched: {explain((result.stdout + result.stderr).strip().splitlines())}"
        )


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())

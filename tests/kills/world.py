"""A folder in which every writing command can run again and again from the same beginning."""

import hashlib
import json
import multiprocessing
import os
import re
import shutil
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from simulation.camera import FRONT
from support.small_world import config_for, write_episodes
from visual_planner.execution.camera import View

COMMANDS = (
    *("vae", "pretrain", "shard", "prepare", "cache", "train", "export", "evaluate"),
    *("readout", "closed_loop", "study", "demonstrate", "scene"),
)
"""In the order in which each takes what those before it wrote."""
STRAY = re.compile(r"\..*(?:\.part|\.lock|\.partial|\.part-\d+|\.partial-.*)$")
_TIMED = re.compile(r"log\.jsonl|.*\.(?:log|html)|run\.json|.*curve.*\.png")
"""Files with times or speeds in them; they must be there, but differ from run to run."""
_WHEN = ("date", "seconds", "steps_per_second")
"""Keys of records that say when something was made and how long it took."""
_STEPS = {"max_steps": 12, "save_every": 2, "keep": 2}
_SIZE = 32


def arguments_of(command: str, folder: Path) -> list[str]:
    """A command's line in a world, after `python -m training` or, for the last two, `python -m simulation`."""
    planner = {"planner": folder / "base", "lora": folder / "planner.safetensors", "readout": folder / "readout"}
    given = [part for name, place in planner.items() for part in (f"--{name}", str(place))]
    settings = {**planner, "scenes": 2, "first_seed": 9000100, "modes": "[text]"}
    scene = ["--size", str(_SIZE)]
    return {
        "closed_loop": [
            *("evaluate", "--closed-loop", *given, "--scenes", "2", "--first-seed", "9000100", "--mode", "text"),
            *("--batch-size", "1", "--no-base", "--json", str(folder / "closed_loop.json")),
        ],
        "study": [
            *("study", "attention", "--out", str(folder / "study"), "--page", str(folder / "pages" / "attention.md")),
            *(part for name, value in settings.items() for part in ("--set", f"{name}={value}")),
        ],
        "demonstrate": ["demonstrate", "--episodes", "2", "--out", str(folder / "demonstrations"), "--quiet", *scene],
        "shard": [
            *("prepare", "--config", str(folder / "config.yaml"), "--shard", "1/2"),
            *("--set", f"prepare.out={folder / 'divided'}"),
        ],
        "scene": ["scene", "--seed", "3", "--out", str(folder / "scenes" / "3.png"), *scene],
    }.get(command, [command, "--config", str(folder / "config.yaml")])


def run_command(command: str, folder: Path, setup: Callable[[], None], said: Connection | None = None) -> None:
    """One command line in a process of its own; its exit code is the command's.

    Args:
        command: one of `COMMANDS`.
        folder: of the world.
        setup: called before the command.
        said: where what it wrote to standard error goes at its end; None: nowhere.
    """
    import contextlib
    import io

    from simulation.__main__ import main as simulate
    from training.__main__ import main as train

    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    main = simulate if command in ("demonstrate", "scene") else train
    text = io.StringIO()
    with contextlib.redirect_stderr(text):
        setup()
        code = main(arguments_of(command, folder))
    if said is not None:
        said.send(text.getvalue())
    os._exit(code)  # no clean-up of the parent's


def nothing() -> None:
    """The setup of a command that is left alone."""


def _without_times(value: object) -> object:
    if isinstance(value, dict):
        return {name: _without_times(entry) for name, entry in value.items() if name not in _WHEN}
    return [_without_times(entry) for entry in value] if isinstance(value, list) else value


def _content(path: Path) -> bytes:
    """A file's bytes; of a record all but when it was written and how long that took."""
    if path.suffix != ".json":
        return path.read_bytes()
    return json.dumps(_without_times(json.loads(path.read_bytes()))).encode()


def _write_states(folder: Path) -> None:
    """Episodes that say where the end effector is: at the square, at one distance from the camera."""
    write_episodes(folder, count=8)
    view = View(FRONT.eye, FRONT.rays(_SIZE, _SIZE))
    records = [json.loads(line) for line in (folder / "episodes.jsonl").read_text().splitlines()]
    for record in records:
        seen = np.array([(x / _SIZE, y / _SIZE, 1.1) for x, y in record["end_effector_px"]])
        record |= {"end_effector_m": view.place(seen).tolist(), "gripper": [0.0] * 5 + [1.0] * 4}
        record["camera"] = FRONT.to_json()
    (folder / "episodes.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))


class World:
    """Episodes and a configuration of every command.

    Args:
        folder: an empty folder for it and for what it goes back to.
        place: where it stands; None: in `folder`.
    """

    def __init__(self, folder: Path, place: Path | None = None) -> None:
        self.folder, self.before = place or folder / "world", folder / "before"
        self.folder.mkdir(parents=True, exist_ok=True)
        write_episodes(self.folder / "episodes")
        write_episodes(self.folder / "play", "play")
        _write_states(self.folder / "states")
        record = config_for(self.folder, **_STEPS).model_dump(mode="json", exclude_unset=True)
        for section in ("vae", "pretrain"):
            record[section] |= _STEPS
        record["readout"] = {
            "source": [str(self.folder / "states")], "out": str(self.folder / "readout_run"), "held_out": 2,
            "model": str(self.folder / "readout"), "size": [_SIZE, _SIZE], "channels": [8, 8], "points": 4,
            "batch_size": 4, "log_every": 1, **_STEPS,
        }  # fmt: skip
        (self.folder / "config.yaml").write_text(json.dumps(record))
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["training.planner.train", "training.evaluation.evaluate"])

    def start(
        self, command: str, setup: Callable[[], None] = nothing, said: Connection | None = None
    ) -> multiprocessing.Process:
        """Begin a command; see `run_command`."""
        process = self._context.Process(target=run_command, args=(command, self.folder, setup, said))
        process.start()
        return process

    def run(self, command: str, setup: Callable[[], None] = nothing) -> tuple[int, str]:
        """Run a command to its end; its exit code and what it wrote to standard error."""
        here, there = multiprocessing.Pipe(duplex=False)
        process = self.start(command, setup, there)
        there.close()
        try:
            text = here.recv()
        except EOFError:
            text = ""
        process.join()
        return process.exitcode, text

    def save(self) -> None:
        """Keep the folder as it is, to go back to."""
        shutil.rmtree(self.before, ignore_errors=True)
        shutil.copytree(self.folder, self.before)

    def restore(self) -> None:
        """Go back."""
        for path in self.folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        shutil.copytree(self.before, self.folder, dirs_exist_ok=True)

    def digests(self) -> dict[str, str]:
        """Every file -> the digest of its bytes; empty where they have times in them."""
        files = sorted(path for path in self.folder.rglob("*") if path.is_file())
        return {
            path.relative_to(self.folder).as_posix(): ""
            if _TIMED.fullmatch(path.name)
            else hashlib.sha256(_content(path)).hexdigest()
            for path in files
        }

    def strays(self) -> list[str]:
        """Temporary files and folders, and locks."""
        return sorted(
            path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*") if STRAY.fullmatch(path.name)
        )

    def differences(self, wanted: dict[str, str]) -> list[str]:
        """What is there and should not be, is not there, or is another."""
        found = self.digests()
        return [f"stray {name}" for name in self.strays()] + [
            f"{name} differs"
            for name in sorted(wanted.keys() | found.keys())
            if wanted.get(name) != found.get(name) and not STRAY.fullmatch(Path(name).name)
        ]

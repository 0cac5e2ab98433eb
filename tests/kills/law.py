"""A command that is killed and run again leaves what an unkilled one leaves: the same bytes, and no strays."""

import hashlib
import json
import multiprocessing
import os
import random
import re
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path

from support.small_world import config_for, write_episodes

COMMANDS = ("vae", "pretrain", "prepare", "cache", "train", "export", "evaluate")
"""In the order in which each takes what those before it wrote."""
STRAY = re.compile(r"\..*(?:\.part|\.lock|\.partial|\.part-\d+|\.partial-.*)$")
_TIMED = re.compile(r"log\.jsonl|.*\.(?:log|html)|metrics\.json|run\.json|.*curve.*\.png")
"""Files with times or speeds in them; they must be there, but differ from run to run."""
_STEPS = {"max_steps": 12, "save_every": 2, "keep": 2}


@dataclass
class Tally:
    """What came of one command's kills."""

    kills: int = 0
    while_writing: int = 0
    """Of these, while a temporary file or folder was there."""
    broken: list[str] = field(default_factory=list)


def run_command(command: str, config: Path, silent: bool = True) -> None:
    """One command line in a process of its own; its exit code is the command's."""
    from training.__main__ import main

    if silent:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
    os._exit(main([command, "--config", str(config)]))  # no clean-up of the parent's


def _content(path: Path) -> bytes:
    """A file's bytes; of a checkpoint's record all but when it was written and how long that took."""
    if path.name != "state.json":
        return path.read_bytes()
    record = json.loads(path.read_bytes())
    return json.dumps({name: value for name, value in record.items() if name not in ("date", "seconds")}).encode()


class World:
    """A folder in which each command runs again and again from the same beginning."""

    def __init__(self, folder: Path) -> None:
        """Write episodes and a configuration."""
        self.folder, self.before = folder / "world", folder / "before"
        self.folder.mkdir(parents=True)
        write_episodes(self.folder / "episodes")
        write_episodes(self.folder / "play", "play")
        record = config_for(self.folder, **_STEPS).model_dump(mode="json", exclude_unset=True)
        for section in ("vae", "pretrain"):
            record[section] |= _STEPS
        self.config = self.folder / "config.yaml"
        self.config.write_text(json.dumps(record))
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["training.planner.train", "training.evaluation.evaluate"])

    def start(self, command: str) -> multiprocessing.Process:
        """Begin a command."""
        process = self._context.Process(target=run_command, args=(command, self.config))
        process.start()
        return process

    def save(self) -> None:
        """Keep the folder as it is, to go back to."""
        shutil.rmtree(self.before, ignore_errors=True)
        shutil.copytree(self.folder, self.before)

    def restore(self) -> None:
        """Go back."""
        shutil.rmtree(self.folder)
        shutil.copytree(self.before, self.folder)

    def digests(self) -> dict[str, str]:
        """Every file → the digest of its bytes; empty where they have times in them."""
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

    def try_kills(self, command: str, kills: int, seed: int) -> Tally:
        """Kill a command at random moments, and, every other time, while it writes; the world is then after it."""
        tally, rng = Tally(), random.Random(f"{command} {seed}")
        self.save()
        started = time.monotonic()
        process = self.start(command)
        process.join()
        duration = time.monotonic() - started
        if process.exitcode or self.strays():
            tally.broken.append(f"unkilled: exit code {process.exitcode}, strays {self.strays()}")
            return tally
        wanted = self.digests()
        for number in range(kills):
            self.restore()
            process = self.start(command)
            aimed, moment = number % 2 == 1, time.monotonic() + rng.uniform(0, duration)
            skipped = rng.randrange(4)  # temporary files that are let pass before the aimed kill
            seen: set[str] = set()
            while process.is_alive():
                if aimed:
                    seen.update(name for name in self._now() if not name.endswith(".lock"))
                    if len(seen) > skipped:
                        break
                elif time.monotonic() > moment:
                    break
                time.sleep(0.0005)
            process.kill()
            process.join()
            if process.exitcode != -9:
                continue  # it had ended before
            tally.kills += 1
            tally.while_writing += any(not name.endswith(".lock") for name in self.strays())
            again = self.start(command)
            again.join()
            found = self.digests()
            what = [f"exit code {again.exitcode}"] if again.exitcode else []
            what += [f"stray {name}" for name in self.strays()]
            what += [f"{name} differs" for name in sorted(wanted.keys() | found.keys())
                     if wanted.get(name) != found.get(name) and not STRAY.fullmatch(Path(name).name)]  # fmt: skip
            if what:
                tally.broken.append(f"{'aimed' if aimed else 'random'} kill {number}: {', '.join(what[:6])}")
        return tally

    def _now(self) -> list[str]:
        try:
            return self.strays()
        except OSError:  # a folder that went away while it was listed
            return []

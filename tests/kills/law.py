"""A command that is killed and run again leaves what an unkilled one leaves: the same bytes, and no strays."""

import random
import time
from dataclasses import dataclass, field

from .world import World


@dataclass
class Tally:
    """What came of one command's kills."""

    kills: int = 0
    while_writing: int = 0
    """Of these, while a temporary file or folder was there."""
    broken: list[str] = field(default_factory=list)


def try_kills(world: World, command: str, kills: int, seed: int) -> Tally:
    """Kill a command while it writes and, every other time, at a random moment; the world is then after it."""
    tally, rng = Tally(), random.Random(f"{command} {seed}")
    world.save()
    started = time.monotonic()
    code, text = world.run(command)
    duration = time.monotonic() - started
    if code or world.strays():
        tally.broken.append(f"unkilled: exit code {code}, strays {world.strays()}, {text[-300:]}")
        return tally
    wanted = world.digests()
    for number in range(kills):
        world.restore()
        aimed = number % 2 == 0
        process = world.start(command)
        moment = time.monotonic() + rng.uniform(0, duration)
        skipped = rng.randrange(4)  # temporary files that are let pass before the aimed kill
        seen: set[str] = set()
        while process.is_alive():
            if aimed:
                seen.update(name for name in _now(world) if not name.endswith(".lock"))
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
        tally.while_writing += any(not name.endswith(".lock") for name in world.strays())
        ended = not [line for line in world.differences(wanted) if not line.endswith(".lock")]
        code, text = world.run(command)
        what = world.differences(wanted)
        if code and not ended:  # one that was killed behind its last write may say that its output is there already
            what.insert(0, f"exit code {code} ({text[-200:]})")
        if what:
            tally.broken.append(f"{'aimed' if aimed else 'random'} kill {number}: {', '.join(what[:6])}")
    return tally


def _now(world: World) -> list[str]:
    try:
        return world.strays()
    except OSError:  # a folder that went away while it was listed
        return []

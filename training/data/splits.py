"""Which episodes are trained on, and in which nested subsets, without leaks."""

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence

from ..errors import TrainingError


def scenes_of(
    firsts: Mapping[str, str], shown: Mapping[str, Sequence[str]], names: Mapping[str, str]
) -> dict[str, str]:
    """Episode -> name of its scene; recordings of one scene share the name of one of them.

    Args:
        firsts: episode -> digest of its first frame.
        shown: episode -> digests of its other frames: a recording that starts within another one and continues with its
            frames shows the same scene; one that only starts where another ends does not.
        names: episode -> the part of its name that other recordings of its scene share; "" if none do.
    """
    leader = {name: name for name in firsts}

    def find(name: str) -> str:
        while leader[name] != name:
            leader[name] = name = leader[leader[name]]
        return name

    seen: dict[str, str] = {}
    starts: dict[str, list[str]] = defaultdict(list)
    for episode, first in firsts.items():
        starts[first].append(episode)
        for key in (f"frame {first}", *([f"name {names[episode]}"] if names.get(episode) else [])):
            leader[find(episode)] = find(seen.setdefault(key, episode))
    for episode, digests in shown.items():
        for other in {other for digest in digests for other in starts.get(digest, ())}:
            if not set(digests).isdisjoint(shown.get(other, ())):
                leader[find(episode)] = find(other)
    return {name: find(name) for name in firsts}


def split_episodes(scenes: Mapping[str, str], count: int, rule: str = "last", seed: int = 0) -> set[str]:
    """Episodes kept out of training.

    Episodes of one scene stay on one side: a planner that has seen a scene's outcome would only have to remember it. A
    group with more episodes than are still wanted goes to training.

    Args:
        scenes: episode -> name of its scene, such as the digest of its first frame, in the order of the data.
        count: how many to keep out.
        rule: last: from the end of the data; random: in an order that depends on the seed and the names alone.
        seed: seed of that order.

    Raises:
        TrainingError: there are too few episodes, or all share their scenes.
    """
    if not count:
        return set()
    if count >= len(scenes):
        raise TrainingError(f"{count} episodes cannot be held out: there are only {len(scenes)}")
    groups: dict[str, list[str]] = defaultdict(list)
    for name, scene in scenes.items():
        groups[scene].append(name)
    names = list(scenes)[::-1] if rule == "last" else shuffled(scenes, seed, "split")
    kept: set[str] = set()
    for name in names:
        group = groups[scenes[name]]
        if name not in kept and len(kept) + len(group) <= count:
            kept.update(group)
    if not kept:
        raise TrainingError(
            "no episode can be held out: cameras of one scene or identical first frames come in groups larger "
            f"than {count}"
        )
    return kept


def find_leaks(pairs: Sequence[dict], firsts: Mapping[str, str], scenes: Mapping[str, str] | None = None) -> list[str]:
    """Find what is on both sides of the split: episodes, first frames and scenes.

    Args:
        pairs: lines of pairs.jsonl.
        firsts: episode -> digest of its first frame; unknown ones are not compared.
        scenes: episode -> name of its scene, likewise.
    """
    sides: dict[str, set[str]] = defaultdict(set)
    for pair in pairs:
        sides[pair["split"]].add(pair["episode"])
    train, rest = sides.pop("train", set()), set().union(*sides.values()) if sides else set()
    leaks = [f"episode {name} is in training and in validation" for name in sorted(train & rest)]
    for what, held in (("has the first frame", firsts), ("shows the scene", scenes or {})):
        seen = {held[name]: name for name in sorted(train) if name in held}
        for name in sorted(rest - train):
            if held.get(name) in seen:
                leaks.append(f"episode {name} (validation) {what} of episode {seen[held[name]]} (training)")
    return leaks


def ranks(episodes: Sequence[str], seed: int) -> dict[str, int]:
    """Rank of each training episode in the order of nested subsets: the first N form the subset of N."""
    return {name: rank for rank, name in enumerate(shuffled(episodes, seed, "subset"))}


def shuffled(names: Sequence[str] | Mapping, seed: int, purpose: str) -> list[str]:
    """Names in a random order; adding or removing some does not change the order of the others."""
    return sorted(names, key=lambda name: hashlib.sha256(f"{purpose}:{seed}:{name}".encode()).digest())

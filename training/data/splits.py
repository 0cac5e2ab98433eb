"""Which episodes are trained on, and in which nested subsets, without leaks."""

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence

from ..errors import TrainingError


def split_episodes(firsts: Mapping[str, str], count: int, rule: str = "last", seed: int = 0) -> set[str]:
    """Episodes kept out of training.

    Episodes with an identical first frame stay on one side: a planner that has seen a scene's outcome would only have
    to remember it. A group of them that is larger than what is still wanted is trained on.

    Args:
        firsts: episode → digest of its first frame, in the order of the data.
        count: how many to keep out.
        rule: last: from the end of the data; random: in an order that depends on the seed and the names alone.
        seed: of that order.

    Raises:
        TrainingError: there are too few episodes, or all share their first frames.
    """
    if not count:
        return set()
    if count >= len(firsts):
        raise TrainingError(f"{count} episodes cannot be held out: there are only {len(firsts)}")
    groups: dict[str, list[str]] = defaultdict(list)
    for name, first in firsts.items():
        groups[first].append(name)
    names = list(firsts)[::-1] if rule == "last" else shuffled(firsts, seed, "split")
    kept: set[str] = set()
    for name in names:
        group = groups[firsts[name]]
        if name not in kept and len(kept) + len(group) <= count:
            kept.update(group)
    if not kept:
        raise TrainingError(f"no episode can be held out: identical first frames come in groups larger than {count}")
    return kept


def find_leaks(pairs: Sequence[dict], firsts: Mapping[str, str]) -> list[str]:
    """What is on both sides of the split: episodes, and first frames.

    Args:
        pairs: lines of pairs.jsonl.
        firsts: episode → digest of its first frame; those that are not known are not compared.
    """
    sides: dict[str, set[str]] = defaultdict(set)
    for pair in pairs:
        sides[pair["split"]].add(pair["episode"])
    train, rest = sides.pop("train", set()), set().union(*sides.values()) if sides else set()
    leaks = [f"episode {name} is in training and in validation" for name in sorted(train & rest)]
    seen = {firsts[name]: name for name in sorted(train) if name in firsts}
    for name in sorted(rest - train):
        if firsts.get(name) in seen:
            leaks.append(f"episode {name} (validation) has the first frame of episode {seen[firsts[name]]} (training)")
    return leaks


def ranks(episodes: Sequence[str], seed: int) -> dict[str, int]:
    """Place of each training episode in the order of nested subsets: the first N are the subset of N."""
    return {name: rank for rank, name in enumerate(shuffled(episodes, seed, "subset"))}


def shuffled(names: Sequence[str] | Mapping, seed: int, purpose: str) -> list[str]:
    """Names in an order that does not change for the others when some are added or left out."""
    return sorted(names, key=lambda name: hashlib.sha256(f"{purpose}:{seed}:{name}".encode()).digest())

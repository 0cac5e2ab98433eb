"""Records that evolve: an older version is brought up to date step by step, only a newer one is refused."""

from collections.abc import Callable, Mapping

from .errors import brief, listed

Upgrade = Callable[[dict], dict]
"""A record of one version -> the fields that the next version adds to it."""


def upgrade(record: Mapping, upgrades: Mapping[int, Upgrade], current: int, name: str, error: type[Exception]) -> dict:
    """The record in its current version.

    Args:
        record: as it was read; its `version` says which one it is.
        upgrades: version -> the step to the next one, for every version before `current`.
        current: the newest version that is known here.
        name: name of the kind of record, for messages.
        error: class of the error that is raised.

    Raises:
        error: the version is not a whole number from 1 on, or newer than `current`; or the record has a field that its
            version did not have.
    """
    version = record.get("version")
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise error(f"{name} version must be a whole number from 1 to {current}, got {brief(version)}")
    if version > current:
        raise error(f"{name} version must be at most {current}, got {brief(version)}: this file needs a newer plugin")
    result = dict(record)
    for number in range(version, current):
        added = upgrades[number](result)
        if unknown := sorted(added.keys() & result.keys()):
            raise error(f"{name} has unknown keys: {listed(unknown)}; version {number} had none of these")
        result = {**result, **added, "version": number + 1}
    return result

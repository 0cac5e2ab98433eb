"""What the folders between a source and its files are: cameras of the same episodes, or episodes of their own.

An item is the path of a video without its suffix, or of a folder of pictures, relative to the source. A camera is its
first part (CAMERA/EPISODE) or its last (EPISODE/CAMERA). Where both readings are possible, names decide, and where
they do not, nothing is guessed.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ....errors import TrainingError
from ..base import choose_camera

_CAMERA = re.compile(
    r"(observations?|obs|images?|imgs?|videos?|rgbd?|colou?r|depth|ir|infra\w*|gr[ae]y|raw|stereo|mono|fisheye|"
    r"cam|cams|cameras?|views?|viewpoint|sensor|webcam|iphone|phone|front\w*|side\w*|top\w*|bottom|back|rear|left|right|"
    r"center|centre|middle|upper|lower|high|low|wrist|hand|eye|in|head|chest|torso|arm|gripper|base|static|fixed|main|"
    r"overhead|overview|over|shoulder|birds?|bird'?s?eye|ego\w*|exo\w*|third|first|3rd|1st|person|agent\w*|robot\d*|ext|"
    r"external|exterior|table\w*|corner|kinect|zed|realsense|rs|d4\d\d\w*|l515|azure|gopro|oak\w*|logitech|"
    r"primary|secondary|[lr])\d*"
)
_EPISODE = re.compile(
    r"(ep|eps|episodes?|runs?|demos?|demonstrations?|traj|trajs|trajector(y|ies)|takes?|trials?|rollouts?|seq|sequences?|"
    r"clips?|recordings?|rec|sessions?|samples?|tests?|attempts?|tries|try|iter\w*|scenes?)[^a-z]*\d.*"
)
_SHOWN = 4


@dataclass(frozen=True)
class Layout:
    """A reading of the folders.

    Args:
        items: item -> name of its episode, for the chosen camera only.
        absent: episodes that the chosen camera lacks.
        camera: the chosen one; empty if folders are not cameras.
        cameras: all of them.
        notes: how the folders were interpreted.
    """

    items: dict[str, str]
    absent: tuple[str, ...] = ()
    camera: str = ""
    cameras: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def read_layout(
    items: Sequence[str], path: Path, wanted: str, folders: str, camera_last: bool, hint: str = ""
) -> Layout:
    """Decide what folders are.

    Args:
        items: see the module's docstring.
        path: the source, for messages.
        wanted: camera that was asked for; empty: none.
        folders: as `prepare.folders`.
        camera_last: whether EPISODE/CAMERA is the documented form of this format, rather than CAMERA/EPISODE.
        hint: "cameras" or "episodes", if the instructions name either.

    Raises:
        TrainingError: two readings are possible, or there is no such camera.
    """
    usual = [_split(items, last) for last in (camera_last, not camera_last)]
    single = camera_last and len(usual[0]) == 1 and len(next(iter(usual[0].values()))) == len(items)
    readings = [held for held in usual if _is_shared(held) or (single and held is usual[0])]
    alone = Layout({item: item for item in items})
    if folders == "episodes" and not wanted:
        return alone
    by_name = [held for held in readings if all(map(is_camera_name, held))]
    if wanted:
        readings = [held for held in readings if _names(held, wanted)] or by_name or readings
        if not readings:
            raise TrainingError(f"{path} has a single camera: camera must be left out, got {wanted!r}")
        return _by_camera(readings[0], items, path, wanted)
    if len(by_name) == 1 or (by_name and folders == "cameras"):
        return _by_camera(by_name[0], items, path, wanted)
    if readings and (folders == "cameras" or hint == "cameras" or single):
        return _by_camera(readings[0], items, path, wanted)
    whole = [held for held in readings if _is_whole(held)]
    if not whole or hint == "episodes" or any(all(map(_EPISODE.fullmatch, map(str.lower, held))) for held in whole):
        return alone
    names = list(whole[0])
    count = len(next(iter(whole[0].values())))
    raise TrainingError(
        f"{path}: the folders {_listed(names)} hold the same names, so they may be cameras of {count} episodes, or "
        f"there are {len(items)} episodes of one camera: set prepare.folders to cameras or to episodes"
    )


def is_camera_name(name: str) -> bool:
    """Whether a name only says where a camera is, or what kind of pictures it takes."""
    words = [word for word in re.split(r"[^a-z0-9']+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()) if word]
    plain = [word for word in words if not word.isdecimal()]
    return bool(plain) and all(map(_CAMERA.fullmatch, plain))


def scenes_of(names: Iterable[str]) -> dict[str, str]:
    """The common part of names that differ only in camera words (`ep1_front`, `ep1_side`); others are left out."""
    rest = {}
    for name in names:
        words = re.split(r"([^A-Za-z0-9]+)", name)
        rest[name] = " ".join(word for word in words[::2] if word and not is_camera_name(word)).casefold()
    alike = defaultdict(list)
    for name, text in rest.items():
        alike[text].append(name)
    return {name: text for text, group in alike.items() if text and len(group) > 1 for name in group}


def _split(items: Sequence[str], last: bool) -> dict[str, dict[str, str]]:
    """Camera -> episode -> item, for the items that have folders."""
    held: dict[str, dict[str, str]] = defaultdict(dict)
    for item in items:
        head, found, tail = item.rpartition("/") if last else item.partition("/")
        if found:
            held[tail if last else head][head if last else tail] = item
    return dict(sorted(held.items()))


def _is_shared(held: dict[str, dict[str, str]]) -> bool:
    """Whether folders can be cameras at all: some episode occurs in two of them."""
    episodes = [episode for group in held.values() for episode in group]
    return len(held) > 1 and len(set(episodes)) < len(episodes)


def _is_whole(held: dict[str, dict[str, str]]) -> bool:
    """Whether several folders hold exactly the same names, more than one; equally large task folders can do so too."""
    groups = {frozenset(group) for group in held.values()}
    return len(held) > 1 and len(groups) == 1 and len(next(iter(groups))) > 1


def _names(held: dict[str, dict[str, str]], wanted: str) -> bool:
    return any(name == wanted or re.split(r"[./]", name)[-1] == wanted for name in held)


def _by_camera(held: dict[str, dict[str, str]], items: Sequence[str], path: Path, wanted: str) -> Layout:
    chosen = choose_camera(list(held), wanted, path)
    episodes = dict.fromkeys(episode for group in held.values() for episode in group)
    absent = tuple(episode for episode in episodes if episode not in held[chosen])
    strays = sorted(set(items) - {item for group in held.values() for item in group.values()})
    notes = []
    if len(held) > 1:
        notes.append(f"{_listed(list(held))} are taken for cameras of {len(episodes)} episodes")
    if strays:
        notes.append(f"{len(strays)} outside the folders of cameras are left out: {_listed(strays)}")
    taken = {item: episode for episode, item in held[chosen].items()}
    return Layout(taken, absent, chosen, tuple(held), tuple(notes))


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")

"""The worlds by name. A new one needs a line here; see docs/maintaining/add_a_world.md."""

from importlib import import_module

from .errors import WorldError
from .protocol import World

WORLDS = {"jaco": "worlds.jaco:JacoTable", "metaworld": "worlds.metaworld.world:MetaWorld"}
"""Name -> module and class, imported only when used since simulators are optional."""


def world_class(name: str) -> type[World]:
    """The class of a world.

    Raises:
        WorldError: there is none of that name, or what it needs is not installed.
    """
    if name not in WORLDS:
        raise WorldError(f"world must be one of {', '.join(WORLDS)}, got {name!r}")
    module, _, own = WORLDS[name].partition(":")
    try:
        return getattr(import_module(module), own)
    except ModuleNotFoundError as error:
        raise WorldError(f"world {name} needs the package {error.name}: see docs/guides/execute.md") from error


def open_world(name: str, size: int = 64, look: str = "") -> World:
    """Open a world for frames of a size [px]; close it, or use it as a context manager.

    Raises:
        WorldError: there is no such world or look, it is not installed, or nothing can be rendered here.
    """
    return world_class(name)(size, look)

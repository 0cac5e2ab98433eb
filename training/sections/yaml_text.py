"""YAML of configurations: one reader for every file and every change on the command line."""

from pathlib import Path

import yaml

from visual_planner.errors import plain

from ..errors import TrainingError

MAX_BYTES = 2**20
MAX_DEPTH = 32
"""Bounds of a configuration: far larger than any that a person writes."""


class _Loader(yaml.SafeLoader):
    """Plain values only: no aliases, which could expand to many times the file; no deep nesting; no key twice."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: object) -> yaml.Node | None:
        """One node of the file."""
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise yaml.composer.ComposerError(None, None, "anchors and aliases are not read", event.start_mark)
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise yaml.composer.ComposerError(None, None, f"nested deeper than {MAX_DEPTH} levels", event.start_mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        """A mapping whose keys differ."""
        found = super().construct_mapping(node, deep=deep)
        if len(found) < len(node.value) and not any(key.tag == "tag:yaml.org,2002:merge" for key, _ in node.value):
            raise yaml.constructor.ConstructorError(None, None, "a key stands here more than once", node.start_mark)
        return found


def read_yaml(text: str, what: str) -> object:
    """The value that YAML stands for.

    Args:
        text: the YAML; empty gives None.
        what: names it in messages.

    Raises:
        TrainingError: it is not YAML, or has anchors, aliases, a key twice, or an impossible value.
    """
    if len(text) > MAX_BYTES:
        raise TrainingError(f"{what} must have at most {MAX_BYTES} characters, got {len(text)}")
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        reason = plain(" ".join(str(error).split()), 300)
        raise TrainingError(f"{what} is not YAML: {reason}") from error
    except (ValueError, OverflowError, RecursionError, TypeError, KeyError) as error:
        # dates that do not exist, numbers of thousands of digits, keys that are lists
        raise TrainingError(f"{what} has a value that cannot be read: {plain(str(error), 200)}") from error


def read_yaml_mapping(path: Path, what: str) -> dict:
    """The mapping in a YAML file; an empty file is an empty mapping.

    Raises:
        TrainingError: the file is missing or is not such YAML.
    """
    try:
        data = path.read_bytes()[: 4 * MAX_BYTES + 1]
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TrainingError(f"{what} {path} must be UTF-8 text, got byte 0x{data[error.start]:02x}") from error
    except (OSError, ValueError) as error:
        raise TrainingError(f"{what} {path} is not a file that can be read") from error
    value = read_yaml(text, f"{what} {path}")
    value = {} if value is None else value
    if not isinstance(value, dict):
        raise TrainingError(f"{what} {path} must be a mapping, got {type(value).__name__}")
    return value

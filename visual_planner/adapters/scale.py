"""Alpha of an adapter whose file has no alpha tensors: from the header, or from PEFT's settings beside the file.

Whatever the record says is converted to an alpha that, divided by the rank, is the scale.

Which record counts:
- PEFT's settings, as diffusers writes them into the header (`lora_adapter_metadata`), or as PEFT writes them beside the
  file (`adapter_config.json`): lora_alpha, alpha_pattern, use_rslora.
- `lora_alpha` alone in the header.
- `ss_network_alpha`, kohya's record of the training, only where matrices have kohya's names (lora_up, lora_down) and
  the whole file has no alpha: there it was lost. Converters to PEFT's names (lora_A, lora_B), which have no place for
  alpha, fold it into the matrices and leave the record in the header; counting it would scale twice.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, BinaryIO

from ..errors import PlannerError, brief
from ..json_text import json_record

DIFFUSERS_KEY = "lora_adapter_metadata"
PEFT_FILE, PEFT_SETTINGS = "adapter_model.safetensors", "adapter_config.json"
MAX_SETTINGS = 2**20
"""Largest file of PEFT's settings [bytes]."""
_MAX_PATTERN = 200
_LITERAL = re.compile(r"[\w\-]+")
_REGEX = re.compile(r"(?:[\w\-]|\\?\.|\\d\+|\[0-9\]\+|\.\*|\((?:\?:)?[\w|]+\)|\^|\$)+")
"""Patterns that are matched as regular expressions; none of these can take long."""
_MAX_WILD = 3


class ScaleError(PlannerError):
    """A record of alpha cannot be read."""


def settings_of_header(metadata: Mapping[str, str], where: str) -> dict[str, Any]:
    """PEFT's settings from diffusers' entry in a header, without the component's name before each key.

    Raises:
        ScaleError: the entry is no JSON object.
    """
    text = metadata.get(DIFFUSERS_KEY)
    if not text:
        return {}
    try:
        record = json_record(text, DIFFUSERS_KEY, ScaleError)
    except ScaleError:
        raise ScaleError(
            f"{where} must have readable settings, but {DIFFUSERS_KEY} in its header is not JSON"
        ) from None
    return {key.removeprefix("transformer."): value for key, value in record.items()}


def is_of_peft(name: str, alone: bool, keys: Iterable[str]) -> bool:
    """Whether PEFT's settings in an adapter's folder belong to it: their file has the same name in every folder.

    Args:
        name: name of the adapter's file.
        alone: whether it is the only one in its folder.
        keys: keys of its tensors.
    """
    return name == PEFT_FILE or alone or any(key.startswith("base_model.model.") for key in keys)


def settings_of_peft(data: bytes, where: str) -> dict[str, Any]:
    """PEFT's settings from the bytes of their file, of which the first `MAX_SETTINGS` + 1 are enough.

    Raises:
        ScaleError: they are no JSON object, or too long.
    """
    if len(data) > MAX_SETTINGS:
        raise ScaleError(f"{where} must have at most {MAX_SETTINGS} bytes")
    return json_record(data, where, ScaleError)


def settings_beside(
    name: str, neighbours: Iterable[str], keys: Iterable[str], opened: Callable[[], BinaryIO], where: str
) -> dict[str, Any]:
    """PEFT's settings in the folder of a file that PEFT wrote; empty if there are none or they are another file's.

    Args:
        name: name of the adapter's file.
        neighbours: names of all adapters in its folder, itself included.
        keys: keys of its tensors.
        opened: opens `PEFT_SETTINGS` in that folder.
        where: what the file is, for messages.

    Raises:
        ScaleError: the settings cannot be read.
    """
    if not is_of_peft(name, len(list(neighbours)) == 1, keys):
        return {}
    where = f"{where}'s settings {PEFT_SETTINGS} beside it"
    try:
        with opened() as stream:
            return settings_of_peft(stream.read(MAX_SETTINGS + 1), where)
    except (FileNotFoundError, IsADirectoryError):
        return {}
    except OSError as error:
        raise ScaleError(f"{where} cannot be read: {error.strerror or error}") from None


def alpha_of(
    settings: Mapping[str, Any], metadata: Mapping[str, str], kohya: bool, name: str, rank: int, where: str
) -> float | None:
    """Alpha of one module; None if no record gives it (alpha then equals the rank).

    Args:
        settings: PEFT's, from the header or from beside the file; may be empty.
        metadata: the header's entries.
        kohya: whether the file's matrices have kohya's names and none has an alpha.
        name: the module's own name, without prefixes.
        rank: rank of its matrices.
        where: what the file is, for messages.

    Raises:
        ScaleError: a value is not a number, or a pattern cannot be used.
    """
    pattern = settings.get("alpha_pattern") or {}
    if not isinstance(pattern, Mapping):
        raise ScaleError(f"{where} must have layers and numbers as alpha_pattern, got {brief(pattern)}")
    own = next((value for key, value in pattern.items() if _fits(key, name, where)), None)
    if own is None:
        own = settings.get("lora_alpha", metadata.get("lora_alpha"))
    if own is None and kohya:
        own = metadata.get("ss_network_alpha")
    if own in (None, "None", ""):
        return None
    alpha = _number(own, where)
    return alpha * math.sqrt(rank) if settings.get("use_rslora") is True else alpha


def _fits(pattern: object, name: str, where: str) -> bool:
    """Whether a key of alpha_pattern applies to a module: PEFT matches it as a regular expression at the name's end."""
    text = str(pattern)
    literal = text.replace("\\.", ".").removeprefix("^").removesuffix("$")
    if name == literal or name.endswith(f".{literal}"):
        return True
    if all(_LITERAL.fullmatch(part) for part in literal.split(".")):
        return False
    if len(text) > _MAX_PATTERN or not _REGEX.fullmatch(text) or text.count("*") > _MAX_WILD:
        raise ScaleError(f"{where} must have names of layers in alpha_pattern, got {brief(pattern)}")
    return re.fullmatch(rf"(?:.*\.)?(?:{text})", name) is not None


def _number(value: object, where: str) -> float:
    try:
        number = float(value) if not isinstance(value, bool) else math.nan
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise ScaleError(f"{where} must have a finite number as alpha in its header, got {brief(value)}")
    return number

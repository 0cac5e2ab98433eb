"""The only loader of weights and tokenizers from base folders: local safetensors only, no code from the folder."""

from pathlib import Path
from typing import Any, TypeVar

import torch

from visual_planner.errors import plain

from ...errors import TrainingError

Part = TypeVar("Part")
_PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


def load_weights(kind: type[Part], folder: str | Path, **settings: Any) -> Part:
    """Load a module from a folder with `config.json` and safetensors, whole or in shards.

    The network is not used, nothing is unpickled, and no code from the folder is run.

    Args:
        kind: its class, of diffusers or transformers.
        folder: where it is.
        settings: further arguments of the class's `from_pretrained`.

    Raises:
        TrainingError: it is not a folder, has no safetensors, or they or its settings are broken.
    """
    folder = _folder(folder)
    if not any(folder.glob("[!.]*.safetensors")):
        pickled = next((file.name for file in sorted(folder.iterdir()) if file.suffix.lower() in _PICKLED), None)
        found = f"got {plain(pickled)}, which is never unpickled" if pickled else "but there are none"
        raise TrainingError(f"base model's folder {folder} must have its weights as safetensors, {found}")
    return _load(kind, folder, {"use_safetensors": True, **settings})


def load_tokenizer(kind: type[Part], folder: str | Path, **settings: Any) -> Part:
    """Load a tokenizer from a folder.

    Args:
        kind: its class, of transformers.
        folder: where it is.
        settings: further arguments of the class's `from_pretrained`.

    Raises:
        TrainingError: it is not a folder, or its files are broken.
    """
    return _load(kind, _folder(folder), {"trust_remote_code": False, **settings})


def _folder(folder: str | Path) -> Path:
    folder = Path(folder)
    if not folder.is_dir():  # the libraries would mistake it for a name on the hub
        raise TrainingError(f"base model's part must be a folder, but {folder} does not exist")
    return folder


def _load(kind: type[Part], folder: Path, settings: dict[str, Any]) -> Part:
    try:
        return kind.from_pretrained(folder, local_files_only=True, **settings)
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # two libraries raise a dozen kinds for a broken file, differing by version
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        reason = plain(lines[0], 300)
        raise TrainingError(f"base model's folder {folder} must be a whole {kind.__name__}, got: {reason}") from error

"""Load a tiny planner, a FLUX pipeline in diffusers' folder layout, as ComfyUI's own MODEL, CLIP and VAE.

Nothing global is changed. Everything runs in float32: the planner is small, and this gives the same results as the
diffusers pipeline.
"""

from pathlib import Path
from types import ModuleType

from ....visual_planner.errors import brief
from ..safetensors_files import ModelFileError, read_json

TINY_FOLDER = Path(__file__).resolve().parents[3] / "models" / "tiny_planner"
"""Folder of the plugin's own planner."""
TINY, METAWORLD = "tiny_planner", "metaworld_planner"
PLANNERS = (TINY, METAWORLD)
"""Names of the small planners, each a folder in models/: for the Jaco's table, and for Meta-World."""


def folder_of(name: str) -> Path:
    """Folder of a small planner.

    Raises:
        ModelFileError: there is no such planner, or its weights are missing.
    """
    if name not in PLANNERS:
        raise ModelFileError(f"planner must be one of {', '.join(PLANNERS)}, got {brief(name)}")
    folder = TINY_FOLDER if name == TINY else TINY_FOLDER.with_name(name)
    if not (folder / "transformer").is_dir():
        raise ModelFileError(
            f"planner {name} needs its weights in {folder}, which do not exist: they do not come with this version; "
            "train them as docs/benchmarks/metaworld.md says, or choose tiny_planner"
        )
    return folder


def load_model(folder: Path):
    """MODEL of `folder/transformer`.

    Raises:
        ModelFileError: a file is missing or broken, or ComfyUI does not take it for FLUX.
    """
    return _family(folder).load_model(folder)


def load_clip(folder: Path):
    """CLIP of the text encoders of a folder, with their own tokenizers.

    Raises:
        ModelFileError: a file is missing or broken.
    """
    return _family(folder).load_clip(folder)


def load_vae(folder: Path):
    """VAE of `folder/vae`, an autoencoder of the family's kind of any width.

    Raises:
        ModelFileError: a file is missing or broken, or it is an autoencoder of another kind.
    """
    return _family(folder).load_vae(folder)


def fingerprint(folder: Path) -> tuple:
    """A value that changes when a file of the planner does."""
    names = ("transformer", "text_encoder", "text_encoder_2", "vae")
    files = [file for name in names for file in sorted((folder / name).glob("[!.]*.safetensors"))]
    return tuple((str(file), file.stat().st_mtime_ns, file.stat().st_size) for file in files)


def _family(folder: Path) -> ModuleType:
    """The loaders of the folder's family, by the class of its transformer."""
    from . import tiny_flux1, tiny_flux2

    known = {"FluxTransformer2DModel": tiny_flux1, "Flux2Transformer2DModel": tiny_flux2}
    config = read_json(folder / "transformer" / "config.json", "tiny planner's transformer config")
    name = config.get("_class_name", "FluxTransformer2DModel")
    if name not in known:
        kinds = " or ".join(known)
        raise ModelFileError(f"tiny planner's transformer must be of class {kinds}, got {name!r}: {folder}")
    return known[name]

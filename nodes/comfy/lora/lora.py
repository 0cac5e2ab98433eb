"""Apply a planner LoRA to a clone of ComfyUI's FLUX model, and read its planner record."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from ....visual_planner.adapters.blocks import Strengths, parse_blocks
from ....visual_planner.errors import brief
from ....visual_planner.planner.presets import PRESETS
from ....visual_planner.planner.spec import PlannerSpec
from ...wires import warn
from ..safetensors_files import ModelFileError, read_header
from ..tiny import tiny
from . import lora_beside, lora_where
from .lora_file import LoraFile
from .lora_keys import LoraError, target_of
from .lora_make import is_product, layer_of
from .lora_patches import layers_of_lengths, make_patches

NONE = "none"
FROM_FILE = "from the file"
BUILT_IN = " (built in)"


def lora_names() -> list[str]:
    """Names for the loader's lists: the LoRAs that come with the plugin, then those in ComfyUI's loras folders.

    The Meta-World planner's is listed even without its weights: choosing it reports in one line what is missing.
    """
    import folder_paths

    shipped = sorted(f"{path.stem}{BUILT_IN}" for path in (tiny.TINY_FOLDER / "loras").glob("[!.]*.safetensors"))
    shipped = [*shipped, f"{tiny.METAWORLD}{BUILT_IN}"]
    return [*shipped, *(name for name in folder_paths.get_filename_list("loras") if name.endswith(".safetensors"))]


def lora_path(name: str) -> Path:
    """File of a LoRA in the list.

    Raises:
        ModelFileError: no such LoRA, a name that leads out of its folder, or not a safetensors file.
    """
    import folder_paths

    if name.endswith(BUILT_IN):
        stem = name.removesuffix(BUILT_IN)
        planner = tiny.METAWORLD if stem == tiny.METAWORLD else tiny.TINY
        folder = tiny.folder_of(planner) / "loras"
        path = folder / f"{stem}.safetensors"
        if path.is_file() and path.parent.resolve() == folder.resolve() and Path(stem).name == stem:
            return path
        raise ModelFileError(f"LoRA must be one of those that ship with the plugin, got {brief(stem)}")
    if not name.endswith(".safetensors"):
        raise ModelFileError(f"LoRA must be a .safetensors file, got {brief(name)}")
    if name not in folder_paths.get_filename_list("loras"):
        raise ModelFileError(f"LoRA must be one of the files in ComfyUI's loras folder, got {brief(name)}")
    return Path(folder_paths.get_full_path_or_raise("loras", name))


def read_spec(path: Path, name: str, preset: str) -> PlannerSpec:
    """Planner record of a LoRA: its own, or the chosen preset if it has none.

    Raises:
        LoraError: it has no record and no preset was chosen.
        SpecError: its record is broken or newer than this plugin.
    """
    if preset == FROM_FILE:
        spec = PlannerSpec.from_metadata(read_header(path, f"LoRA {name}").metadata)
        if spec is None:
            presets = ", ".join(PRESETS)
            raise LoraError(
                f"LoRA {name} has no planner record in its header: set preset to the weights that match it ({presets})"
            )
        return spec
    if preset not in PRESETS:
        raise LoraError(f"preset must be {FROM_FILE!r} or one of {', '.join(PRESETS)}, got {preset!r}")
    own = PlannerSpec.from_metadata(read_header(path, f"LoRA {name}").metadata)
    if own is not None and own != PRESETS[preset]:
        warn(f"LoRA {name} has its own planner record, but preset {preset} overrides it")
    return PRESETS[preset]


def apply_lora(
    model,
    path: Path,
    name: str,
    strength: float,
    notes: list[str] | None = None,
    how: str = lora_where.AUTO,
    blocks: str = "",
):
    """Clone of a MODEL with a LoRA (or another adapter) applied.

    Args:
        model: MODEL of ComfyUI.
        path: the file.
        name: its name, for messages.
        strength: factor.
        notes: filled with what a user should know, one line each.
        how: where it acts, one of `lora_where.HOW`.
        blocks: factors of the strength by block, as text (`adapters.blocks`).

    Raises:
        LoraError: keys, shapes or values do not fit the model, or have no effect; nothing is applied then.
        BlocksError: the strengths by block cannot be read.
        ModelFileError: the file is missing, truncated or not a safetensors file.
    """
    file = LoraFile.of(model, path, name)
    notes = [] if notes is None else notes
    if file.left_out:
        text = f"LoRA {name} has {len(file.left_out)} keys of text encoders, which were left out"
        notes.append(warn(text))
    factors = factors_of(model, blocks)
    patched = model.clone()
    if strength == 0.0:
        return patched
    tensors, alphas = file.load()
    asked = partial(lora_where.is_asked, patched, how=how)
    lora_beside.merge_again(patched, layers_of_lengths(file.modules, file.key_map, asked), name)
    patches = make_patches(patched, file.modules, tensors, alphas, file.key_map, name, asked)
    strengths = {key: strength * factor for key in patches if (factor := factors.of(target_of(key)[0]))}
    beside, merged = lora_where.split(patched, {key: patches[key] for key in strengths}, how)
    products = {layer_of(key) for key, patch in merged.items() if is_product(patch)}
    late = {layer_of(key) for key in merged} & lora_beside.products_beside(patched)
    lora_beside.merge_again(patched, products | late, name)
    _merge(patched, merged, strengths, name)
    lora_beside.add(patched, beside, strengths)
    if not factors.are_one:
        notes += _notes_of_blocks(name, factors, {key: patches[key] for key in strengths})
    if text := lora_where.note(patched, name, beside, merged, how):
        notes.append(text)
    if how != lora_where.MERGED and (rounded := lora_where.rounded(patched, merged)):
        kinds = ", ".join(f"{count} of {kind}" for kind, count in rounded.items())
        text = f"LoRA {name} has layers that are merged into quantised weights, which rounds them: {kinds}"
        notes.append(warn(text))
    return patched


def factors_of(model, blocks: str) -> Strengths:
    """Strengths by block for a MODEL, from their text; see `adapters.blocks.parse_blocks`."""
    network = model.model.diffusion_model
    counts = (len(getattr(network, f"{kind}_blocks", ())) for kind in ("double", "single"))
    return parse_blocks(blocks, *counts)


def _notes_of_blocks(name: str, factors: Strengths, patches: Mapping) -> list[str]:
    """What a user should know about strengths by block: their values, and where ComfyUI has no strength."""
    off = "" if patches else ", so that it does nothing"
    notes = [f"LoRA {name}: strength by block {factors.text()}{off}"]
    whole = [key for key, patch in patches.items() if isinstance(patch, tuple) and patch[0] == "set"]
    if any(factors.of(target_of(key)[0]) != 1 for key in whole):
        notes.append(
            f"LoRA {name}: {len(whole)} of its layers are whole weights, which a strength by block can only switch off"
        )
    return notes


def _merge(model, patches: Mapping, strengths: Mapping[object, float], name: str) -> None:
    """Add patches to a MODEL, in place: grouped by strength, which is the same for all without strengths by block.

    Raises:
        LoraError: the model has no such weights.
    """
    missing = []
    for strength in dict.fromkeys(strengths[key] for key in patches):
        group = {key: patch for key, patch in patches.items() if strengths[key] == strength}
        placed = set(model.add_patches(group, strength))
        missing += [str(key) for key in group if key not in placed]
    if missing:
        raise LoraError(
            f"LoRA {name} must fit the model, but {len(missing)} of its modules are not in it ({missing[0]})"
        )

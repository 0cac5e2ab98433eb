"""Apply a planner LoRA to a clone of ComfyUI's FLUX model, and read its planner record."""

from pathlib import Path

import torch

from ...visual_planner.errors import brief
from ...visual_planner.planner.families import FLUX2
from ...visual_planner.planner.presets import PRESETS
from ...visual_planner.planner.spec import PlannerSpec
from ..wires import warn
from . import flux2_names, lora_beside, lora_where, tiny
from .in_context import family_of_model
from .lora_keys import LoraError, check, gather
from .lora_patches import check_values, layers_of_products, make_patches, scales
from .safetensors_files import ModelFileError, load_tensors, read_header

NONE = "none"
FROM_FILE = "from the file"
BUILT_IN = " (built in)"


def lora_names() -> list[str]:
    """Names for the loader's lists: the LoRAs that come with the plugin, then those in ComfyUI's loras folders.

    The Meta-World planner's is among them even without its weights: choosing it says in one line what is missing.
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
    """Planner record of a LoRA: its own, or the preset chosen for one that has none.

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
    model, path: Path, name: str, strength: float, notes: list[str] | None = None, how: str = lora_where.AUTO
):
    """Clone of a MODEL with a LoRA (or another adapter) on it.

    Args:
        model: MODEL of ComfyUI.
        path: the file.
        name: its name, for messages.
        strength: factor.
        notes: filled with what a user should know, a line each.
        how: where it acts, one of `lora_where.HOW`.

    Raises:
        LoraError: keys, shapes or values that do not fit the model, or no effect at all; nothing is applied then.
        ModelFileError: the file is missing, cut short or no safetensors file.
    """
    import comfy.lora

    header = read_header(path, f"LoRA {name}")
    notes = [] if notes is None else notes
    key_map = comfy.lora.model_lora_keys_unet(model.model, {})
    if family_of_model(model) is FLUX2:  # ComfyUI's own map lacks some of its layers
        key_map |= flux2_names.lora_keys(model.model)
    modules, left_out = gather(header.shapes, key_map, name)
    check(modules, header.shapes, key_map, _weight_shapes(model), name)
    if left_out:
        text = f"LoRA {name} has {len(left_out)} keys of text encoders, which were left out"
        notes.append(warn(text))
    patched = model.clone()
    if strength == 0.0:
        return patched
    tensors = load_tensors(path, f"LoRA {name}")
    alphas = scales(modules, tensors, header.metadata, path, name)
    check_values(modules, tensors, alphas, name)
    lora_beside.merge_again(patched, layers_of_products(modules, key_map))
    patches = make_patches(patched, modules, tensors, alphas, key_map, name)
    beside, merged = lora_where.split(patched, patches, how)
    placed = patched.add_patches(merged, strength) if merged else []
    if len(placed) != len(merged):
        missing = [str(key) for key in merged if key not in placed]
        raise LoraError(
            f"LoRA {name} must fit the model, but {len(missing)} of its modules are not in it ({missing[0]})"
        )
    if beside:
        lora_beside.add(patched, beside, strength)
    if text := lora_where.note(patched, name, beside, merged, how):
        notes.append(text)
    if how != lora_where.MERGED and (count := lora_where.rounded(patched, merged)):
        text = f"LoRA {name} has {count} layers that cannot act beside quantised weights: merged, they are rounded"
        notes.append(warn(text))
    return patched


def _weight_shapes(model) -> dict[str, tuple[int, ...]]:
    """Shapes of the model's weights; packed ones are left out where neither they nor their layers say what it is."""
    shapes, modules = {}, dict(model.model.named_modules())
    for key, weight in model.model.state_dict().items():
        packed = weight.dtype in (torch.uint8, torch.int8)
        name, _, kind = key.rpartition(".")
        if not packed or hasattr(weight, "tensor_shape"):
            shapes[key] = tuple(getattr(weight, "tensor_shape", weight.shape))
        elif kind == "weight" and hasattr(module := modules.get(name), "in_features"):
            shapes[key] = lora_beside.shape_of(module, weight)
    return shapes

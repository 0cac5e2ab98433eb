"""FLUX.2 in ComfyUI: weights of a diffusers transformer under its names, and entries that ComfyUI's own maps lack."""

from collections.abc import Mapping

from ...visual_planner.planner.families import FLUX2
from ...visual_planner.planner.layers import Place, bfl_norms, bfl_places
from .safetensors_files import ModelFileError

TAPS = 3
"""Number of text encoder layers whose outputs are concatenated in FLUX.2's text."""


def lacks_klein(width: int, wanted: int) -> str:
    """Hint for text from a ComfyUI older than klein, which takes klein's Qwen3 for another model's encoder.

    Args:
        width: width of the text; that encoder returns a single layer.
        wanted: width that the model takes.

    Returns:
        The hint with a space before it, or an empty text if it does not apply.
    """
    import comfy.text_encoders.flux

    if width * TAPS != wanted or hasattr(comfy.text_encoders.flux, "klein_te"):
        return ""
    return " (this ComfyUI does not know FLUX.2-klein's text encoder: update ComfyUI)"


def to_bfl(weights: Mapping, config: Mapping, name: str) -> dict:
    """Weights of diffusers' Flux2Transformer2DModel under BFL's names.

    Args:
        weights: tensors by diffusers' key.
        config: configuration of the transformer.
        name: name of the transformer, for messages.

    Raises:
        ModelFileError: a key is missing, or not accounted for by the configuration.
    """
    import torch

    double, single = config["num_layers"], config["num_single_layers"]
    hidden = config["num_attention_heads"] * config["attention_head_dim"]
    places = bfl_places(FLUX2, double, single, hidden)
    if not config.get("guidance_embeds", True):
        places = {layer: place for layer, place in places.items() if "guidance_embedder" not in layer}
    norms = bfl_norms(FLUX2, double, single)
    wanted = {f"{layer}.weight" for layer in (*places, *norms)}
    if different := sorted(wanted ^ weights.keys()):
        raise ModelFileError(
            f"{name} must have the {len(wanted)} weights that its config asks for, but {len(different)} are missing or "
            f"unknown ({', '.join(different[:3])})"
        )
    result = {f"{to}.scale": weights[f"{layer}.weight"] for layer, to in norms.items()}
    joined: dict[str, list] = {}
    for layer, place in places.items():
        tensor = weights[f"{layer}.weight"]
        joined.setdefault(f"{place.layer}.weight", []).append(swap_halves(tensor) if place.swapped else tensor)
    return result | {key: parts[0] if len(parts) == 1 else torch.cat(parts) for key, parts in joined.items()}


def lora_keys(model) -> dict[str, object]:
    """Entries for ComfyUI's LoRA key map: every layer of a FLUX.2 model by diffusers' name, with all known prefixes.

    Args:
        model: the model inside a MODEL.
    """
    network = model.diffusion_model
    places = bfl_places(FLUX2, len(network.double_blocks), len(network.single_blocks), network.hidden_size)
    known = {key for key in model.state_dict() if key.endswith(".weight")}
    entries: dict[str, object] = {}
    for layer, place in places.items():
        if (key := f"diffusion_model.{place.layer}.weight") in known:
            flat = layer.replace(".", "_")
            for name in (f"transformer.{layer}", f"lycoris_{flat}", f"lora_transformer_{flat}"):
                entries[name] = _target(key, place)
    return entries


def _target(key: str, place: Place) -> object:
    """A layer's place as in ComfyUI's patches: a key, a key with rows, or a key with a change of the result."""
    if place.swapped:
        return (key, None, swap_halves)
    return key if place.rows is None else (key, (0, *place.rows))


def swap_halves(weight):
    """(scale, shift) -> (shift, scale) of a modulation's rows, and back."""
    import torch

    first, second = weight.chunk(2, dim=0)
    return torch.cat([second, first], dim=0)

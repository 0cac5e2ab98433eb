"""LoRAs for a FLUX transformer in every key format that users have, all of the same effect."""

from __future__ import annotations

from pathlib import Path

import torch

RANK = 4


def random_lora(transformer, rank: int = RANK, seed: int = 0) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Matrices (down, up) of every linear layer, by its name in diffusers."""
    generator = torch.Generator().manual_seed(seed)
    lora = {}
    for name, module in transformer.named_modules():
        if isinstance(module, torch.nn.Linear):
            down = torch.randn(rank, module.in_features, generator=generator) * 0.05
            up = torch.randn(module.out_features, rank, generator=generator) * 0.05
            lora[name] = (down, up)
    return lora


def diffusers_keys(lora, prefix: str = "transformer.", infix: str = "") -> dict[str, torch.Tensor]:
    """`transformer.<name>.lora_A.weight`; `infix` is PEFT's adapter name (`.default`)."""
    tensors = {}
    for name, (down, up) in lora.items():
        tensors[f"{prefix}{name}.lora_A{infix}.weight"] = down
        tensors[f"{prefix}{name}.lora_B{infix}.weight"] = up
    return tensors


def flat_keys(lora, prefix: str) -> dict[str, torch.Tensor]:
    """`<prefix><name with underscores>.lora_down.weight`, with alpha tensors (OneTrainer, LyCORIS, kohya)."""
    tensors = {}
    for name, (down, up) in lora.items():
        module = prefix + name.replace(".", "_")
        tensors[f"{module}.lora_down.weight"] = down
        tensors[f"{module}.lora_up.weight"] = up
        tensors[f"{module}.alpha"] = torch.tensor(float(down.shape[0]))
    return tensors


def bfl(lora) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """The same LoRA on BFL's modules, where q, k and v (and a single block's first layer) are one matrix."""
    lora = dict(lora)
    fused = {}

    def fuse(target: str, names: list[str]) -> None:
        parts = [lora.pop(name) for name in names]
        fused[target] = (torch.cat([down for down, _ in parts]), torch.block_diag(*[up for _, up in parts]))

    blocks = {name.split(".")[1] for name in lora if name.startswith("transformer_blocks.")}
    for number in sorted(blocks):
        old, new = f"transformer_blocks.{number}", f"double_blocks.{number}"
        fuse(f"{new}.img_attn.qkv", [f"{old}.attn.to_{letter}" for letter in "qkv"])
        fuse(f"{new}.txt_attn.qkv", [f"{old}.attn.add_{letter}_proj" for letter in "qkv"])
    blocks = {name.split(".")[1] for name in lora if name.startswith("single_transformer_blocks.")}
    for number in sorted(blocks):
        old, new = f"single_transformer_blocks.{number}", f"single_blocks.{number}"
        fuse(f"{new}.linear1", [*(f"{old}.attn.to_{letter}" for letter in "qkv"), f"{old}.proj_mlp"])
    down, up = lora.pop("norm_out.linear")
    scale, shift = up.chunk(2)  # diffusers has the scale first, BFL the shift
    fused["final_layer.adaLN_modulation.1"] = (down, torch.cat([shift, scale]))
    for name, pair in lora.items():
        fused[_bfl_name(name)] = pair
    return fused


def save(tensors: dict[str, torch.Tensor], path: Path, metadata: dict[str, str] | None = None) -> Path:
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({key: value.clone() for key, value in tensors.items()}, path, metadata=metadata)
    return path


_DOUBLE = {
    "attn.to_out.0": "img_attn.proj",
    "attn.to_add_out": "txt_attn.proj",
    "norm1.linear": "img_mod.lin",
    "norm1_context.linear": "txt_mod.lin",
    "ff.net.0.proj": "img_mlp.0",
    "ff.net.2": "img_mlp.2",
    "ff_context.net.0.proj": "txt_mlp.0",
    "ff_context.net.2": "txt_mlp.2",
}
_SINGLE = {"norm.linear": "modulation.lin", "proj_out": "linear2"}
_REST = {
    "x_embedder": "img_in",
    "context_embedder": "txt_in",
    "proj_out": "final_layer.linear",
    "time_text_embed.timestep_embedder.linear_1": "time_in.in_layer",
    "time_text_embed.timestep_embedder.linear_2": "time_in.out_layer",
    "time_text_embed.guidance_embedder.linear_1": "guidance_in.in_layer",
    "time_text_embed.guidance_embedder.linear_2": "guidance_in.out_layer",
    "time_text_embed.text_embedder.linear_1": "vector_in.in_layer",
    "time_text_embed.text_embedder.linear_2": "vector_in.out_layer",
}


def _bfl_name(name: str) -> str:
    if name.startswith("transformer_blocks."):
        _, number, rest = name.split(".", 2)
        return f"double_blocks.{number}.{_DOUBLE[rest]}"
    if name.startswith("single_transformer_blocks."):
        _, number, rest = name.split(".", 2)
        return f"single_blocks.{number}.{_SINGLE[rest]}"
    return _REST[name]

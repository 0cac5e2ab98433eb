"""Adapters of every kind for a layer of any size, and ways in which files of them are broken."""

from __future__ import annotations

import pytest
import torch

KINDS = (
    "lora", "lora 4d", "lora mid", "dora rows", "dora columns", "loha", "loha tucker", "loha dora", "lokr",
    "lokr halves", "lokr tucker", "glora", "glora old", "oft", "boft", "diff", "set", "lora bias",
)  # fmt: skip


def factors(number: int, generator: torch.Generator) -> tuple[int, int]:
    """A random pair of whole numbers with that product."""
    divisors = [d for d in (2, 4, 8, 16) if number % d == 0]
    first = divisors[int(torch.randint(len(divisors), (), generator=generator))]
    return first, number // first


def parts_of(kind: str, rows: int, columns: int, seed: int) -> dict[str, torch.Tensor]:
    """The parts of an adapter for a weight (rows, columns)."""
    generator = torch.Generator().manual_seed(seed)
    rank = int(torch.randint(1, 9, (), generator=generator))
    alpha = {"alpha": torch.tensor(float(torch.randint(1, 17, (), generator=generator)))}

    def random(*shape):
        return torch.randn(shape, generator=generator) * 0.05

    pair = {"lora_up.weight": random(rows, rank), "lora_down.weight": random(rank, columns)}
    names = ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")
    shapes = [(rows, rank), (rank, columns)] * 2
    loha = {name: random(*shape) for name, shape in zip(names, shapes, strict=True)}
    if kind.startswith("lokr"):
        (a, c), (b, d) = factors(rows, generator), factors(columns, generator)
        if kind == "lokr":
            return {"lokr_w1": random(a, b), "lokr_w2": random(c, d), **alpha}
        halves = {"lokr_w1_a": random(a, rank), "lokr_w1_b": random(rank, b)}
        if kind == "lokr halves":
            return {**halves, "lokr_w2_a": random(c, rank), "lokr_w2_b": random(rank, d), **alpha}
        core = {"lokr_t2": random(rank, rank, 1, 1), "lokr_w2_a": random(rank, c), "lokr_w2_b": random(rank, d)}
        return {"lokr_w1": random(a, b), **core, **alpha}
    if kind.endswith("oft"):
        size = 8
        shape = (rows // size, size, size) if kind == "oft" else (2, rows // size, size, size)
        return {"oft_blocks": random(*shape), "alpha": torch.tensor(0.0)}
    return {
        "lora": {**pair, **alpha},
        "lora 4d": {name: tensor[:, :, None, None] for name, tensor in pair.items()} | alpha,
        "lora mid": {**pair, "lora_mid.weight": random(rank, rank, 1, 1), **alpha},
        "lora bias": {**pair, "diff_b": random(rows), **alpha},
        "dora rows": {**pair, "dora_scale": random(rows, 1).abs() + 0.5, **alpha},
        "dora columns": {**pair, "dora_scale": random(1, columns).abs() + 0.5, **alpha},
        "loha": {**loha, **alpha},
        "loha dora": {**loha, "dora_scale": random(rows, 1).abs() + 0.5, **alpha},
        "loha tucker": {
            "hada_w1_a": random(rank, rows), "hada_w1_b": random(rank, columns), "hada_t1": random(rank, rank, 1, 1),
            "hada_w2_a": random(rank, rows), "hada_w2_b": random(rank, columns), "hada_t2": random(rank, rank, 1, 1),
            **alpha,
        },
        "glora": {
            "a1.weight": random(columns, rank), "a2.weight": random(rank, columns),
            "b1.weight": random(rows, rank), "b2.weight": random(rank, columns), **alpha,
        },
        "glora old": {
            "a1.weight": random(rank, columns), "a2.weight": random(columns, rank),
            "b1.weight": random(rank, columns), "b2.weight": random(rows, rank), **alpha,
        },
        "diff": {"diff": random(rows, columns)},
        "set": {"set_weight": random(rows, columns)},
    }[kind]  # fmt: skip


def breakages(kind: str, parts: dict[str, torch.Tensor]) -> dict[str, dict[str, torch.Tensor]]:
    """Broken forms of an adapter by name: none of them may be applied, and none may pass in silence."""
    matrices = [name for name, tensor in parts.items() if tensor.ndim > 1]
    first, broken = matrices[0], {}
    if len(matrices) > 1 and kind not in ("dora rows", "dora columns"):
        for name in matrices:
            if name != "lora_mid.weight" and not name.startswith("dora"):
                broken[f"without {name}"] = {key: value for key, value in parts.items() if key != name}
    for name, tensor in parts.items():
        if tensor.ndim > 0:
            if kind != "boft":  # fewer rotations are another whole one
                broken[f"cut {name}"] = {**parts, name: tensor[:-1]}
            if tensor.ndim > 1 and name != "dora_scale":
                broken[f"{name} in one row"] = {**parts, name: tensor.reshape(-1)}
            broken[f"{name} as a number"] = {**parts, name: torch.tensor(1.0)}
        for value in (float("nan"), float("inf")):
            spoilt = tensor.clone()
            spoilt.view(-1)[-1] = value
            broken[f"{value} in {name}"] = {**parts, name: spoilt}
    broken["whole numbers"] = {**parts, first: parts[first].to(torch.int32) + 1}
    if kind != "set":
        broken["zero"] = {name: tensor if name == "alpha" or name.startswith("dora") else tensor * 0
                          for name, tensor in parts.items()}  # fmt: skip
    if kind.startswith(("lora", "dora", "loha", "glora")) or kind in ("lokr halves", "lokr tucker"):
        broken["alpha 0"] = {**parts, "alpha": torch.tensor(0.0)}
    broken["two alphas"] = {**parts, "alpha": torch.tensor([1.0, 2.0])}
    broken["alpha alone"] = {"alpha": torch.tensor(1.0)}
    broken["another kind beside it"] = {
        **parts,
        **({"diff": torch.ones(8, 8)} if kind != "diff" else {"lokr_w1": torch.ones(2, 2)}),
    }
    return broken


def weights(patched):
    import comfy.lora

    values = patched.model.state_dict()
    return {key: comfy.lora.calculate_weight(p, values[key].clone(), key) for key, p in patched.patches.items()}


def size_of(model, layer):
    import comfy.lora

    target = comfy.lora.model_lora_keys_unet(model.model, {})[layer]
    key, part = (target, None) if isinstance(target, str) else target[:2]
    shape = tuple(model.model.state_dict()[key].shape)
    return shape if part is None else (part[2], shape[1])


def in_file(layer, parts):
    return {f"{layer}.{name}": tensor for name, tensor in parts.items()}


def refused(apply, tensors, message="", **more):
    with pytest.raises(ValueError, match=message or None) as caught:
        apply(tensors, **more)
    text = str(caught.value)
    assert text.startswith("LoRA a.safetensors must ") or text.startswith("LoRA a.safetensors has "), text
    assert "\n" not in text and len(text) < 600
    return text

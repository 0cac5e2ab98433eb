"""Pairs → a cache of latents and text embeddings, so that training never loads an encoder.

A cache is a contract: its manifest names the spec, the files of the encoders by digest, and what each shard holds.
Each picture and each distinct prompt is encoded once.
"""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from visual_planner.grid import slice_grid
from visual_planner.spec import PlannerSpec

from .config import CacheSection, Config
from .errors import TrainingError
from .files import read_json, tensor_digest, write_json, write_tensors, write_text
from .latents import encode_cells, encode_pictures, load_vae
from .prepare import FORMAT as PAIRS_FORMAT
from .text import TextEncoders

FORMAT = "visual_planner.cache"
MANIFEST, PAIRS = "manifest.json", "pairs.jsonl"


def cache(config: Config) -> None:
    """Encode a folder of pairs."""
    section: CacheSection = config.section("cache")
    data, out = Path(section.data), Path(section.out)
    spec, pairs = read_pairs(data)
    device = section.device if section.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    dtype = getattr(torch, section.dtype)
    if section.encode == "cells" and not spec.condition_is_cell:
        raise TrainingError(
            f"cache.encode is cells, but conditions are {spec.condition_tokens}: "
            "a condition that is encoded as a whole grid needs targets encoded the same way (grid)"
        )
    if (out / MANIFEST).exists():
        raise TrainingError(f"cache.out {out} holds a finished cache already: remove it or choose another folder")

    encoders = TextEncoders.load(section.base, section.text_tokens, dtype).to(device)
    prompts = sorted({pair["text"] for pair in pairs} | {""})
    write_tensors(out / "text.safetensors", _encode_prompts(encoders, prompts, section.batch_size))
    del encoders  # at FLUX's size text encoders and autoencoder do not fit side by side

    vae = load_vae(Path(section.base) / "vae", dtype, device)
    first_only = spec.condition_is_cell
    sources = sorted({pair["source"] for pair in pairs})
    targets = sorted({pair["target"] for pair in pairs})

    def encode_target(grids: np.ndarray) -> torch.Tensor:
        if section.encode == "grid":
            return encode_pictures(vae, grids)
        return encode_cells(vae, slice_grid(torch.from_numpy(grids), spec.layout), spec.layout)

    def encode_condition(grids: np.ndarray) -> torch.Tensor:
        return encode_pictures(vae, grids[:, : spec.cell_height, : spec.cell_width] if first_only else grids)

    target_shards = _encode_files(encode_target, data, targets, out, "targets", section, spec)
    source_shards = _encode_files(encode_condition, data, sources, out, "conditions", section, spec)
    place = {name: number for number, name in enumerate(targets)}, {name: number for number, name in enumerate(sources)}
    text = {prompt: number for number, prompt in enumerate(prompts)}
    lines = [
        json.dumps(
            {
                "id": pair["id"],
                "mode": pair["mode"],
                "split": pair["split"],
                "target": place[0][pair["target"]],
                "condition": place[1][pair["source"]],
                "text": text[pair["text"]],
            }
        )
        for pair in pairs
    ]
    write_text(out / PAIRS, "\n".join(lines) + "\n")
    write_json(
        out / MANIFEST,
        {
            "format": FORMAT,
            "version": 1,
            "spec": asdict(spec),
            "pairs": len(lines),
            "empty_prompt": text[""],
            "shard_size": section.shard_size,
            "shards": {"targets": target_shards, "conditions": source_shards},
            "encoders": encoder_digests(Path(section.base)),
        },
    )
    print(f"{out}: {len(lines)} pairs, {len(targets)} targets, {len(sources)} conditions, {len(prompts)} prompts")


def read_pairs(folder: Path) -> tuple[PlannerSpec, list[dict]]:
    """Spec and lines of a folder of pairs.

    Raises:
        TrainingError: it is none.
    """
    info = read_json(folder / "dataset.json", "folder of pairs")
    if info.get("format") != PAIRS_FORMAT:
        raise TrainingError(f"{folder / 'dataset.json'} must say format {PAIRS_FORMAT!r}, got {info.get('format')!r}")
    lines = (folder / "pairs.jsonl").read_text(encoding="utf-8").splitlines()
    return spec_from(info["spec"]), [json.loads(line) for line in lines]


def spec_from(record: dict) -> PlannerSpec:
    """PlannerSpec of a JSON record."""
    return PlannerSpec.from_json(json.dumps(record))


def encoder_digests(base: Path) -> dict[str, str]:
    """SHA-256 of each weight file of the encoders, by its path in the base folder; decoders do not count."""
    files = [
        file
        for name in ("vae", "text_encoder", "text_encoder_2")
        for file in sorted((base / name).glob("*.safetensors"))
    ]
    return {
        str(file.relative_to(base)): tensor_digest(file, leave_out=("decoder.", "post_quant_conv.")) for file in files
    }


@torch.no_grad()
def _encode_prompts(encoders: TextEncoders, prompts: list[str], batch_size: int) -> dict[str, torch.Tensor]:
    states, pooled = [], []
    for start in tqdm(range(0, len(prompts), batch_size), desc="prompts"):
        part = encoders(prompts[start : start + batch_size])
        states.append(part[0].bfloat16() if encoders.t5.dtype != torch.float32 else part[0])
        pooled.append(part[1].bfloat16() if encoders.t5.dtype != torch.float32 else part[1])
    return {"states": torch.cat(states), "pooled": torch.cat(pooled)}


def _encode_files(
    encode: Callable, data: Path, names: list[str], out: Path, kind: str, section: CacheSection, spec: PlannerSpec
) -> list[str]:
    """Encode grids (B, H, W, 3) into shards; returns the shards' names."""
    shards = []
    for shard, start in enumerate(range(0, len(names), section.shard_size)):
        part, latents = names[start : start + section.shard_size], []
        for at in tqdm(range(0, len(part), section.batch_size), desc=f"{kind} {shard}"):
            grids = [_read_grid(data / name, spec) for name in part[at : at + section.batch_size]]
            latents.append(encode(np.stack(grids)).half())
        shards.append(f"{kind}-{shard:05d}.safetensors")
        write_tensors(out / shards[-1], {"latents": torch.cat(latents)})
    return shards


def _read_grid(file: Path, spec: PlannerSpec) -> np.ndarray:
    try:
        with Image.open(file) as image:
            pixels = np.array(image.convert("RGB"))
    except (OSError, SyntaxError) as error:
        raise TrainingError(f"picture {file} cannot be read: {error}") from error
    if pixels.shape[:2] != spec.grid_size:
        raise TrainingError(
            f"picture {file} is {pixels.shape[:2]} (height, width), the spec's grid is {spec.grid_size}"
        )
    return pixels


class Cache:
    """A finished cache, read shard by shard from memory-mapped files.

    Args:
        folder: where it is.

    Raises:
        TrainingError: it is unfinished, broken, or lacks a shard.
    """

    def __init__(self, folder: str | Path) -> None:
        from safetensors import safe_open

        self.folder = Path(folder)
        self.manifest = read_json(self.folder / MANIFEST, "cache manifest")
        if self.manifest.get("format") != FORMAT:
            raise TrainingError(
                f"{self.folder / MANIFEST} must say format {FORMAT!r}, got {self.manifest.get('format')!r}"
            )
        self.spec = spec_from(self.manifest["spec"])
        self.pairs = [json.loads(line) for line in (self.folder / PAIRS).read_text().splitlines()]
        self._files = {}
        for name in [*self.manifest["shards"]["targets"], *self.manifest["shards"]["conditions"], "text.safetensors"]:
            try:
                self._files[name] = safe_open(self.folder / name, "pt")
            except Exception as error:  # safetensors raises several kinds for a missing or truncated file
                raise TrainingError(f"cache file {self.folder / name} cannot be read: {error}") from error

    def check_encoders(self, base: Path) -> None:
        """Raise TrainingError if the cache was made with other encoders than those of `base`."""
        for name, value in encoder_digests(base).items():
            if self.manifest["encoders"].get(name) != value:
                raise TrainingError(
                    f"cache {self.folder} was made with another {name} than that of {base}: make it anew"
                )

    def latents(self, kind: str, index: int) -> torch.Tensor:
        """Normalised latents (16, h, w) of picture `index` of kind "targets" or "conditions"."""
        shard, row = divmod(index, self.manifest["shard_size"])
        return self._files[self.manifest["shards"][kind][shard]].get_slice("latents")[row]

    def text(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """T5 states (T, D) and pooled CLIP state (P,) of prompt `index`."""
        file = self._files["text.safetensors"]
        return file.get_slice("states")[index], file.get_slice("pooled")[index]

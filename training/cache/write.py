"""Pairs -> a cache of latents and text embeddings, so that training never loads an encoder.

A cache is a contract: its manifest names the spec, the files of the encoders by digest, and each shard with size and
SHA-256. Each picture and each distinct prompt is encoded once. Shards are distributed over the processes of a launcher;
a run that was killed continues with the missing shards. What a shard holds depends on the data alone, so the cache is
the same however many processes made it and however often they were stopped.
"""

import json
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from visual_planner.grid.cells import slice_grid
from visual_planner.planner.condition_picture import encode_condition
from visual_planner.planner.spec import PlannerSpec

from ..data.pairs_folder import END_EFFECTOR, condition_picture, read_info, read_pairs
from ..data.sources.pictures import read_picture
from ..errors import TrainingError
from ..files import json_object
from ..model.autoencoder import encode_cells, encode_pictures, load_vae
from ..model.bases.registry import base_of
from ..sections.config import Config
from ..sections.data import CacheSection
from ..sections.sharding import ALL, Asked, Process, device_of, divide
from .check import quick_check
from .plan import KINDS, Plan, Shard, differences, is_finished, plan_cache, read_note
from .read import FORMAT, MANIFEST, PAIRS
from .shards import check_shards, forget_damaged, forget_records, write_record
from .storage import Folder
from .values import cut_prompts, finite


def cache(config: Config, asked: Asked = ALL) -> None:
    """Encode a folder of pairs; with a launcher or in shards, in several processes.

    Args:
        config: the configuration, of which the section `cache` is used.
        asked: a shard of the files, or finished shards to merge.

    Raises:
        TrainingError: the pairs have a problem, the disk is full, another cache is in the way, or a shard is missing.
    """
    section: CacheSection = config.section("cache")
    spec, pairs = read_pairs(section.data, section.episodes)
    if section.encode == "cells" and not spec.condition_is_cell:
        raise TrainingError(
            f"cache.encode must be grid for condition_tokens {spec.condition_tokens}, got cells: a condition encoded "
            "as a whole grid needs targets encoded alike"
        )
    out, plan = Folder(section.out), plan_cache(section, spec, pairs)
    _refuse_finished(out, plan)

    def alone(process: Process) -> bool:
        _make(plan, out, process)
        return _finish(plan, out)

    def merge(count: int) -> bool:
        check_shards(plan, out, count)
        return _finish(plan, out)

    if divide("cache", asked, lambda process: _make_part(plan, out, process), merge, alone):
        counts = ", ".join(f"{len(plan.names[kind])} {kind}" for kind in KINDS)
        print(f"{out}: {len(pairs)} pairs, {counts}")


def _refuse_finished(out: Folder, plan: Plan) -> None:
    if out.exists(MANIFEST):
        held = json_object(out.read(MANIFEST, "cache manifest"), f"cache manifest {out.name(MANIFEST)}")
        different = differences(held, plan.contract)
        raise TrainingError(
            f"cache.out {out} already holds a finished cache ({', '.join(different) or 'of these encoders'}): remove "
            "it or choose another folder"
        )


def _make_part(plan: Plan, out: Folder, process: Process) -> None:
    """Make the files of one part, and note that it is finished."""
    forget_damaged(plan, out, process.part)
    _make(plan, out, process)
    write_record(plan, out, process.part)


def _make(plan: Plan, out: Folder, process: Process) -> None:
    """Make the missing files of a part."""
    own = plan.of(process.part)
    quick_check(plan.section, plan.spec, plan.pairs, {name for s in own if s.kind != "text" for name in s.names})
    for kind in KINDS:
        of_kind = [(shard, shard.stamp(plan.read_digest)) for shard in own if shard.kind == kind]
        waiting = [(shard, stamp) for shard, stamp in of_kind if not is_finished(out, shard, stamp)]
        if waiting:
            _encode(waiting, plan, out, process)


def _finish(plan: Plan, out: Folder) -> bool:
    _write_manifest(plan, out, read_info(plan.section.data).first_frames)
    return True


def _encode(shards: list[tuple[Shard, str]], plan: Plan, out: Folder, process: Process) -> None:
    """Make files of one kind, each with its stamp.

    The encoder exists only in this call: text encoders and VAE do not fit in memory together.
    """
    section, spec, first = plan.section, plan.spec, process.part.number == 0
    device, dtype = device_of(process, section.device), getattr(torch, section.dtype)
    kind = shards[0][0].kind
    if kind == "text":
        encoders = base_of(spec).load_text(Path(section.base), section.text_tokens, dtype).to(device)
        for line in cut_prompts(encoders.token_counts(plan.names["text"])) if first else ():
            print(f"warning: {line}", file=sys.stderr)

        def encode(prompts: Sequence[str]) -> dict[str, torch.Tensor]:
            states, pooled = encoders(list(prompts))
            keep = torch.float32 if dtype == torch.float32 else torch.bfloat16
            made = {"states": states, "pooled": pooled}
            kept = {name: part.to("cpu", keep) for name, part in made.items() if part is not None}
            return {name: finite(values, prompts, section) for name, values in kept.items()}
    else:
        vae = load_vae(Path(section.base) / "vae", dtype, device, spec.base_family)
        encode = _picture_encoder(kind, section, spec, vae)
    for shard, stamp in shards:
        parts = [
            encode(shard.names[at : at + section.batch_size])
            for at in tqdm(range(0, len(shard.names), section.batch_size), desc=shard.file, disable=not first)
        ]
        size, digest = out.write_tensors(shard.file, {name: torch.cat([p[name] for p in parts]) for name in parts[0]})
        note = {"stamp": stamp, "bytes": size, "sha256": digest}
        out.write(shard.note, json.dumps(note).encode())


def _picture_encoder(kind: str, section: CacheSection, spec: PlannerSpec, vae: torch.nn.Module) -> Callable:
    def encode(names: Sequence[str]) -> dict[str, torch.Tensor]:
        if kind == "conditions":
            pictures = np.stack([read_condition(section.data / name, spec) for name in names])
            latents = encode_condition(partial(encode_pictures, vae), torch.from_numpy(pictures), spec)
            return {"latents": finite(latents.cpu().half(), names, section)}
        grids = np.stack([read_grid(section.data / name, spec) for name in names])
        if section.encode == "grid":
            latents = encode_pictures(vae, grids)
        else:
            latents = encode_cells(vae, slice_grid(torch.from_numpy(grids), spec.layout), spec.layout)
        return {"latents": finite(latents.cpu().half(), names, section)}

    return torch.no_grad()(encode)


def _write_manifest(plan: Plan, out: Folder, firsts: dict[str, str]) -> None:
    """Write the lines and, last, the manifest, which makes the files a cache; then remove the notes."""
    section, shards = plan.section, plan.shards
    notes = {shard.file: read_note(out, shard) for shard in shards}
    place = {kind: {name: number for number, name in enumerate(plan.names[kind])} for kind in KINDS}
    lines = [
        {
            **{key: pair[key] for key in ("id", "mode", "split", "rank", END_EFFECTOR) if key in pair},
            "target": place["targets"][pair["target"]],
            "condition": place["conditions"][pair["source"]],
            "text": place["text"][pair["text"]],
            # shows whether caches that are trained on together share scenes
            **({"first_frame": firsts[pair["episode"]]} if pair.get("episode") in firsts else {}),
        }
        for pair in plan.pairs
    ]
    out.write(PAIRS, "".join(json.dumps(line) + "\n" for line in lines).encode())
    manifest = {
        "format": FORMAT,
        "version": 2,
        **plan.contract,
        "pairs": len(lines),
        "empty_prompt": place["text"][""],
        "shard_size": section.shard_size,
        "text_shard_size": section.text_shard_size,
        "shards": {kind: [shard.file for shard in shards if shard.kind == kind] for kind in KINDS},
        "files": {file: [note["bytes"], note["sha256"]] for file, note in notes.items()},
    }
    out.write(MANIFEST, (json.dumps(manifest, indent=2) + "\n").encode())
    for shard in shards:
        out.remove(shard.note)
    forget_records(out)


def read_condition(file: Path, spec: PlannerSpec) -> np.ndarray:
    """Condition picture (H, W, 3) uint8 of the spec's size for it.

    Raises:
        TrainingError: it is missing, broken or of another size.
    """
    pixels = read_picture(file, f"picture {file}")
    condition = condition_picture(pixels, spec)
    if condition is None:
        raise TrainingError(
            f"picture {file} is {pixels.shape[:2]} (height, width), the spec's condition is {spec.condition_size}"
        )
    return condition


def read_grid(file: Path, spec: PlannerSpec) -> np.ndarray:
    """Picture (H, W, 3) uint8 of the grid's size.

    Raises:
        TrainingError: it is missing, broken or of another size.
    """
    pixels = read_picture(file, f"picture {file}")
    if pixels.shape[:2] != spec.grid_size:
        raise TrainingError(
            f"image {file} must have the size of the spec's grid (height, width), {spec.grid_size}, got "
            f"{pixels.shape[:2]}"
        )
    return pixels

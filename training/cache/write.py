"""Pairs → a cache of latents and text embeddings, so that training never loads an encoder.

A cache is a contract: its manifest names the spec, the files of the encoders by digest, and each shard with size and
SHA-256. Each picture and each distinct prompt is encoded once. Shards are spread over the processes of a launcher; a
run that was killed goes on with the shards that are missing. What a shard holds depends on the data alone, so the
cache is the same however many processes made it and however often they were stopped.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from tqdm import tqdm

from visual_planner.errors import brief, plain
from visual_planner.grid.cells import slice_grid
from visual_planner.planner.spec import PlannerSpec

from ..data.pairs_folder import condition_picture, read_info, read_pairs, spec_from
from ..data.sources.pictures import read_picture
from ..data.sources.records import Record, Text, checked
from ..errors import TrainingError
from ..files import json_object
from ..model.autoencoder import encode_cells, encode_pictures, load_vae
from ..model.bases.registry import base_of
from ..sections.config import Config
from ..sections.data import CacheSection
from .check import quick_check
from .processes import Process, join
from .read import FORMAT, MANIFEST, PAIRS, encoder_digests
from .storage import Folder
from .values import finite

_KINDS = ("text", "targets", "conditions")


@dataclass(frozen=True)
class Shard:
    """One file of a cache: `names` are prompts or pictures, `stamp` the digest of all that its content depends on."""

    kind: str
    file: str
    names: tuple[str, ...]
    stamp: str

    @property
    def note(self) -> str:
        """File that says that the shard is finished, until the manifest does."""
        return f"{self.file}.json"


def cache(config: Config) -> None:
    """Encode a folder of pairs; with a launcher, in several processes.

    Raises:
        TrainingError: the pairs have a problem, there is no room, or another cache is in the way.
    """
    section: CacheSection = config.section("cache")
    spec, pairs = read_pairs(section.data, section.episodes)
    if section.encode == "cells" and not spec.condition_is_cell:
        raise TrainingError(
            f"cache.encode must be grid for condition_tokens {spec.condition_tokens}, got cells: a condition encoded "
            "as a whole grid needs targets encoded alike"
        )
    quick_check(section, spec, pairs)
    out = Folder(section.out)
    names = {
        "text": sorted({pair["text"] for pair in pairs} | {""}),
        "targets": sorted({pair["target"] for pair in pairs}),
        "conditions": sorted({pair["source"] for pair in pairs}),
    }
    wanted = _contract(section, spec)
    if out.exists(MANIFEST):
        held = json_object(out.read(MANIFEST, "cache manifest"), f"cache manifest {out.name(MANIFEST)}")
        different = differences(held, wanted)
        raise TrainingError(
            f"cache.out {out} already holds a finished cache ({', '.join(different) or 'of these encoders'}): remove "
            "it or choose another folder"
        )
    shards = [shard for kind in _KINDS for shard in plan_shards(kind, names[kind], section, wanted)]
    with join() as process:
        for kind in _KINDS:
            mine = [shard for shard in shards if shard.kind == kind][process.rank :: process.count]
            waiting = [shard for shard in mine if not _is_finished(out, shard)]
            if waiting:
                _encode(waiting, section, spec, out, process)
        process.wait()
        if process.rank == 0:
            _write_manifest(out, shards, pairs, names, read_info(section.data).first_frames, wanted, section)
    if process.rank == 0:
        counts = ", ".join(f"{len(names[kind])} {kind}" for kind in _KINDS)
        print(f"{out}: {len(pairs)} pairs, {counts}")


def _contract(section: CacheSection, spec: PlannerSpec) -> dict:
    """What a cache was made for and with, as its manifest says it."""
    settings = {key: getattr(section, key) for key in ("encode", "text_tokens", "dtype", "batch_size")}
    return {"spec": asdict(spec), "encoders": encoder_digests(Path(section.base), spec), "settings": settings}


def differences(manifest: dict, wanted: dict) -> list[str]:
    """In what a cache differs from the one that is wanted, in words: encoders, spec, settings."""
    held = manifest.get("encoders")
    encoders = held if isinstance(held, dict) else {}
    found = [
        f"made with another {plain(name)}"
        for name in sorted(wanted["encoders"].keys() | encoders.keys())
        if encoders.get(name) != wanted["encoders"].get(name)
    ]
    for part in ("spec", "settings"):
        held = manifest.get(part)
        if held is not None and not isinstance(held, dict):
            found.append(f"made with {part} {brief(held)}")
            continue
        if part == "spec" and held is not None:  # of an older version, too
            held = asdict(spec_from(held))
        for name, value in wanted[part].items() if held is not None else ():
            # through JSON, since a tuple comes back as a list
            if json.loads(json.dumps(held.get(name))) != json.loads(json.dumps(value)):
                found.append(f"made with {part} {name} {brief(held.get(name))} instead of {brief(value)}")
    return found


def plan_shards(kind: str, names: Sequence[str], section: CacheSection, contract: dict) -> list[Shard]:
    """Shards of one kind, in order."""
    size = section.text_shard_size if kind == "text" else section.shard_size
    prefix = "text_encoder" if kind == "text" else "vae"
    encoders = {name: value for name, value in contract["encoders"].items() if name.startswith(prefix)}
    settings = {"kind": kind, "encoders": encoders, **contract["settings"]}
    if kind != "text":
        settings["spec"] = {
            name: contract["spec"][name] for name in ("rows", "cols", "order", "cell_height", "cell_width")
        }
        settings["condition_tokens"] = contract["spec"]["condition_tokens"]
    shards = []
    for number, start in enumerate(range(0, len(names), size)):
        part = tuple(names[start : start + size])
        held = list(part) if kind == "text" else [[name, _file_digest(section.data / name)] for name in part]
        stamp = hashlib.sha256(json.dumps([settings, held], sort_keys=True).encode()).hexdigest()
        shards.append(Shard(kind, f"{kind}-{number:05d}.safetensors", part, stamp))
    return shards


def _file_digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _is_finished(out: Folder, shard: Shard) -> bool:
    if not out.exists(shard.note):
        return False
    if read_note(out, shard).get("stamp") == shard.stamp:
        return out.exists(shard.file)
    print(f"{out.name(shard.file)} comes from other images, encoders or settings: recomputed")
    return False


def read_note(out: Folder, shard: Shard) -> dict:
    """What is noted of a finished shard: its stamp, size and digest; nothing where the note is damaged."""
    try:
        note = json_object(out.read(shard.note, "note"), f"note {out.name(shard.note)}")
        return checked(_Note, note, f"note {out.name(shard.note)}").model_dump()
    except TrainingError as error:
        if not out.exists(shard.note):
            raise
        print(f"{error}: recomputed")
        return {}


class _Note(Record):
    """The note of a shard."""

    stamp: Text
    bytes: Annotated[int, Field(ge=0)]
    sha256: Text


def _encode(shards: list[Shard], section: CacheSection, spec: PlannerSpec, out: Folder, process: Process) -> None:
    """Make shards of one kind. The encoder lives only here: text encoders and VAE do not fit side by side."""
    device = section.device if section.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    device = f"cuda:{process.local_rank}" if device == "cuda" else device
    dtype = getattr(torch, section.dtype)
    kind = shards[0].kind
    if kind == "text":
        encoders = base_of(spec).load_text(Path(section.base), section.text_tokens, dtype).to(device)

        def encode(prompts: Sequence[str]) -> dict[str, torch.Tensor]:
            states, pooled = encoders(list(prompts))
            keep = torch.float32 if dtype == torch.float32 else torch.bfloat16
            made = {"states": states, "pooled": pooled}
            kept = {name: part.to("cpu", keep) for name, part in made.items() if part is not None}
            return {name: finite(values, prompts, section) for name, values in kept.items()}
    else:
        vae = load_vae(Path(section.base) / "vae", dtype, device, spec.base_family)
        encode = _picture_encoder(kind, section, spec, vae)
    for shard in shards:
        parts = [
            encode(shard.names[at : at + section.batch_size])
            for at in tqdm(range(0, len(shard.names), section.batch_size), desc=shard.file, disable=process.rank > 0)
        ]
        size, digest = out.write_tensors(shard.file, {name: torch.cat([p[name] for p in parts]) for name in parts[0]})
        note = {"stamp": shard.stamp, "bytes": size, "sha256": digest}
        out.write(shard.note, json.dumps(note).encode())


def _picture_encoder(kind: str, section: CacheSection, spec: PlannerSpec, vae: torch.nn.Module) -> Callable:
    def encode(names: Sequence[str]) -> dict[str, torch.Tensor]:
        if kind == "conditions":
            latents = encode_pictures(vae, np.stack([read_condition(section.data / name, spec) for name in names]))
            return {"latents": finite(latents.cpu().half(), names, section)}
        grids = np.stack([read_grid(section.data / name, spec) for name in names])
        if section.encode == "grid":
            latents = encode_pictures(vae, grids)
        else:
            latents = encode_cells(vae, slice_grid(torch.from_numpy(grids), spec.layout), spec.layout)
        return {"latents": finite(latents.cpu().half(), names, section)}

    return torch.no_grad()(encode)


def _write_manifest(
    out: Folder,
    shards: list[Shard],
    pairs: list[dict],
    names: dict,
    firsts: dict[str, str],
    contract: dict,
    section: CacheSection,
) -> None:
    notes = {shard.file: read_note(out, shard) for shard in shards}
    place = {kind: {name: number for number, name in enumerate(names[kind])} for kind in _KINDS}
    lines = [
        {
            **{key: pair[key] for key in ("id", "mode", "split", "rank") if key in pair},
            "target": place["targets"][pair["target"]],
            "condition": place["conditions"][pair["source"]],
            "text": place["text"][pair["text"]],
            # so that caches that are trained on together can be told to share scenes
            **({"first_frame": firsts[pair["episode"]]} if pair.get("episode") in firsts else {}),
        }
        for pair in pairs
    ]
    out.write(PAIRS, "".join(json.dumps(line) + "\n" for line in lines).encode())
    manifest = {
        "format": FORMAT,
        "version": 2,
        **contract,
        "pairs": len(lines),
        "empty_prompt": place["text"][""],
        "shard_size": section.shard_size,
        "text_shard_size": section.text_shard_size,
        "shards": {kind: [shard.file for shard in shards if shard.kind == kind] for kind in _KINDS},
        "files": {file: [note["bytes"], note["sha256"]] for file, note in notes.items()},
    }
    out.write(MANIFEST, (json.dumps(manifest, indent=2) + "\n").encode())
    for shard in shards:
        out.remove(shard.note)


def read_condition(file: Path, spec: PlannerSpec) -> np.ndarray:
    """Condition picture (H, W, 3) uint8: a cell or a grid, as the spec says.

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

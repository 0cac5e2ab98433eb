"""Which files a cache consists of, and what each of them depends on."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from runtime.parts import Part, file_digest
from visual_planner.errors import brief, plain
from visual_planner.planner.spec import PlannerSpec

from ..data.pairs_folder import read_manifest, spec_from
from ..data.sources.records import Record, Text, checked
from ..errors import TrainingError
from ..files import json_object
from ..sections.data import CacheSection
from .read import encoder_digests
from .storage import Folder

KINDS = ("text", "targets", "conditions")


@dataclass(frozen=True)
class Shard:
    """One file of a cache.

    Args:
        kind: one of `KINDS`.
        file: its name.
        names: prompts or pictures whose embeddings or latents it holds.
        settings: what else its content depends on.
    """

    kind: str
    file: str
    names: tuple[str, ...]
    settings: dict

    @property
    def note(self) -> str:
        """File that marks the shard as finished until there is a manifest."""
        return f"{self.file}.json"

    def stamp(self, digest_of: Callable[[str], str]) -> str:
        """Digest of everything that its content depends on; `digest_of` returns that of a picture."""
        held = list(self.names) if self.kind == "text" else [[name, digest_of(name)] for name in self.names]
        return hashlib.sha256(json.dumps([self.settings, held], sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Plan:
    """A cache that is to be made.

    Args:
        section: its settings.
        spec: the planner.
        pairs: lines of the pairs.
        names: distinct prompts, targets and conditions, by kind, in order.
        contract: what it is made for and with, as in its manifest.
        shards: its files, kind by kind.
    """

    section: CacheSection
    spec: PlannerSpec
    pairs: list[dict]
    names: dict[str, list[str]]
    contract: dict
    shards: tuple[Shard, ...]

    def of(self, part: Part) -> list[Shard]:
        """The files of a part of the work: its section of each kind, since only one encoder is in memory at a time."""
        return [shard for kind in KINDS for shard in part.of([s for s in self.shards if s.kind == kind])]

    def told_digest(self) -> Callable[[str], str]:
        """A function that returns a picture's digest from the pairs' manifest, or of its content if there is none."""
        told = read_manifest(self.section.data)

        def digest(name: str) -> str:
            return told[name][1] if name in told else self.read_digest(name)

        return digest

    def read_digest(self, name: str) -> str:
        """The digest of a picture's content."""
        return file_digest(self.section.data / name)


def plan_cache(section: CacheSection, spec: PlannerSpec, pairs: list[dict]) -> Plan:
    """The plan for the cache of some pairs; reads the encoders, but no pictures."""
    names = {
        "text": sorted({pair["text"] for pair in pairs} | {""}),
        "targets": sorted({pair["target"] for pair in pairs}),
        "conditions": sorted({pair["source"] for pair in pairs}),
    }
    settings = {key: getattr(section, key) for key in ("encode", "text_tokens", "dtype", "batch_size")}
    contract = {"spec": asdict(spec), "encoders": encoder_digests(Path(section.base), spec), "settings": settings}
    shards = tuple(shard for kind in KINDS for shard in _shards_of(kind, names[kind], section, spec, contract))
    return Plan(section, spec, pairs, names, contract, shards)


def differences(manifest: dict, wanted: dict) -> list[str]:
    """How a cache differs from the one that is wanted, in words: encoders, spec, settings."""
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
            # through JSON, which turns a tuple into a list
            if json.loads(json.dumps(held.get(name))) != json.loads(json.dumps(value)):
                found.append(f"made with {part} {name} {brief(held.get(name))} instead of {brief(value)}")
    return found


def _shards_of(
    kind: str, names: Sequence[str], section: CacheSection, spec: PlannerSpec, contract: dict
) -> list[Shard]:
    """Files of one kind, in order."""
    size = section.text_shard_size if kind == "text" else section.shard_size
    prefix = "text_encoder" if kind == "text" else "vae"
    encoders = {name: value for name, value in contract["encoders"].items() if name.startswith(prefix)}
    settings = {"kind": kind, "encoders": encoders, **contract["settings"]}
    if kind != "text":
        settings["spec"] = {
            name: contract["spec"][name] for name in ("rows", "cols", "order", "cell_height", "cell_width")
        }
        settings["condition_tokens"] = contract["spec"]["condition_tokens"]
        if kind == "conditions" and spec.has_goal:
            settings["goal"] = True
    return [
        Shard(kind, f"{kind}-{number:05d}.safetensors", tuple(names[start : start + size]), settings)
        for number, start in enumerate(range(0, len(names), size))
    ]


def is_finished(out: Folder, shard: Shard, stamp: str) -> bool:
    """Whether an earlier run made a file; prints its name and returns False if its inputs have changed."""
    if not out.exists(shard.note):
        return False
    if read_note(out, shard).get("stamp") == stamp:
        return out.exists(shard.file)
    print(f"{out.name(shard.file)} comes from other images, encoders or settings: recomputed")
    return False


def read_note(out: Folder, shard: Shard) -> dict:
    """Note of a finished shard: its stamp, size and digest; empty if the note is damaged."""
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

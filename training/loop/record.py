"""A run's own record: what was trained, written into each checkpoint, so that resume and export cannot misread it.

The configuration file may be edited between two commands, so what determines the weights is kept in the checkpoint: a
resume under other settings is refused with the field's name, and export reads only the record.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from visual_planner.errors import brief
from visual_planner.planner.spec import NOT_TRAINED, PlannerSpec

from ..errors import TrainingError
from ..sections.run import RunSection

RUN = "run"
"""Key of the record in a checkpoint's `state.json`."""
FREE = frozenset(
    (
        *("out", "max_steps", "max_epochs", "max_hours", "run_hours", "save_every", "log_every", "keep"),
        *("threads", "device", "shard", "tensorboard", "validation", "changes"),
    )
)
"""Settings that a resumed run may change: how long and where it runs, and what is shown of it."""
FIXED = frozenset(("lora", "base"))
"""Settings that, like the spec, no run can change midway: its weights would mean something else."""
LATER = {"quantized_products": False, "fused_forward": False, "matmul_precision": "highest"}
"""Settings that older records lack -> the value that those runs used."""
_FREE_SPEC = frozenset(f"spec.{name}" for name in NOT_TRAINED)
_BLOCKS, _BLOCK_BYTES = 64, 1 << 16
_DIGEST = "sha256:"


def make_record(
    kind: str,
    section: RunSection,
    inputs: Mapping[str, str | Path | None],
    spec: PlannerSpec | None = None,
    processes: int = 1,
    leave_out: tuple[str, ...] = (),
    **more: object,
) -> dict:
    """The record of a run, as JSON.

    Args:
        kind: name of the training's section.
        section: its settings. Paths among them are left out: the data may be moved.
        inputs: what the run reads, by field name, as paths or as digests; contents are compared, not their location.
        spec: the planner's spec.
        processes: number of processes that share each step.
        leave_out: further settings that do not affect the weights.
        more: further parts, such as the base's shape.
    """
    settings = plain_settings(section, FREE | set(leave_out))
    # A batch may be distributed differently as long as its total size is the same.
    settings["batch_size"] = section.batch_size * processes
    return {
        "kind": kind,
        "spec": None if spec is None else json.loads(json.dumps(asdict(spec))),
        "settings": settings,
        "inputs": {name: content_digest(path) for name, path in inputs.items() if path is not None},
        **more,
    }


def plain_settings(section: BaseModel, leave_out: frozenset | set) -> dict[str, Any]:
    """Settings as JSON, without those left out and without paths."""
    found = {}
    for name in type(section).model_fields:
        value = getattr(section, name)
        if name in leave_out or _holds_path(value) or (name in LATER and value == LATER[name]):
            continue
        found[name] = plain_settings(value, set()) if isinstance(value, BaseModel) else json.loads(json.dumps(value))
    return found


def _holds_path(value: object) -> bool:
    if isinstance(value, list | tuple):
        return any(map(_holds_path, value))
    if isinstance(value, dict):
        return any(_holds_path(item) for pair in value.items() for item in pair)
    return isinstance(value, Path) or (isinstance(value, str) and "://" in value)


def flat(record: Mapping, prefix: str = "") -> dict[str, object]:
    """A record's values by dotted name; settings stand under the training's own name."""
    found: dict[str, object] = {}
    for name, value in record.items():
        if name in ("kind", "changes"):
            continue
        place = f"{prefix}{name}"
        if not prefix and name in ("settings", "inputs"):
            place = str(record.get("kind", "run"))
        if isinstance(value, Mapping):
            found |= flat(value, f"{place}.")
        else:
            found[place] = value
    return found


def differences(kept: Mapping, now: Mapping) -> dict[str, tuple[object, object]]:
    """Dotted name -> (the run's value, this configuration's) of everything in which two records differ.

    Fields of the spec that do not affect training are left out. Prompts come last: their defaults name the grid, so a
    difference there may follow from one in the grid.
    """
    old, new = flat(kept), flat(now)
    found = {}
    for name in sorted((old.keys() | new.keys()) - _FREE_SPEC, key=lambda name: (name.endswith("_prompt"), name)):
        absent = LATER.get(name.rpartition(".")[2])
        found[name] = old.get(name, absent), new.get(name, absent)
    return {name: values for name, values in found.items() if values[0] != values[1]}


def with_current_spec(record: Mapping) -> dict:
    """A run's record with the planner's spec upgraded to the current version."""
    if not record.get("spec"):
        return dict(record)
    spec = PlannerSpec.from_json(json.dumps(record["spec"]))
    return {**record, "spec": json.loads(json.dumps(asdict(spec)))}


def check_record(kept: Mapping | None, now: Mapping, checkpoint: Path, changes: list[str], step: int) -> dict:
    """The record to continue with, after comparing the run's own with this configuration's.

    Args:
        kept: record of the checkpoint; None where an older version wrote none.
        now: record of this configuration.
        checkpoint: the checkpoint, for messages.
        changes: settings that may differ, by dotted name or its beginning; "record" adopts this configuration for a
            checkpoint without a record.
        step: step at which they change.

    Raises:
        TrainingError: another setting differs.
    """
    if kept is None:
        if "record" in changes:
            return dict(now)
        raise TrainingError(
            f"checkpoint {checkpoint} has no record of its settings (an older version wrote it): "
            f"with {now['kind']}.changes=[record] this configuration becomes its record"
        )
    kept = with_current_spec(kept)
    noted = [*kept.get("changes", ())]
    for name, (before, after) in differences(kept, now).items():
        own = name.removeprefix(f"{now['kind']}.")
        allowed = own != name and own.split(".")[0] not in FIXED
        if allowed and any(own == wanted or own.startswith(f"{wanted}.") for wanted in changes):
            noted.append({"step": step, "field": name, "from": before, "to": after})
            continue
        hint = f"; to change it on purpose, add {brief(own)} to {now['kind']}.changes" if allowed else ""
        raise TrainingError(describe(name, before, after, checkpoint) + hint)
    return {**now, "changes": noted} if noted else dict(now)


def describe(name: str, before: object, after: object, checkpoint: Path) -> str:
    """One line about a field in which a configuration differs from a run."""
    if any(isinstance(value, str) and value.startswith(_DIGEST) for value in (before, after)):
        return f"{name} has other contents than when {checkpoint} was trained"
    return f"{name} must be {brief(before)}, as when {checkpoint} was trained, got {brief(after)}"


def content_digest(path: str | Path | list | tuple) -> str:
    """Digest of what a file or folder holds: weights by their header and blocks spread over them, records whole.

    A folder counts with its own records (`*.json`, `*.jsonl`) and weights (`*.safetensors`) and those of its folders,
    except `loras`, into which exports are written. Pictures count through the records that name them.
    """
    total = hashlib.sha256()
    if isinstance(path, str) and path.startswith(_DIGEST):
        return path
    if isinstance(path, list | tuple):
        for part in path:
            total.update(content_digest(part).encode())
        return _DIGEST + total.hexdigest()
    if "://" in str(path):
        return json_digest(str(path))
    path = Path(path)
    if path.is_dir():
        files = [
            file for depth in ("[!.]*", "[!.]*/[!.]*") for file in path.glob(depth) if "loras" not in file.parts[-2:]
        ]
    else:
        files = [path]
    for file in sorted(file for file in files if file.suffix in (".json", ".jsonl", ".safetensors")):
        name = file.relative_to(path).as_posix() if path.is_dir() else file.suffix
        total.update(f"{name}:{file.stat().st_size}:".encode())
        total.update(_blocks(file))
    return _DIGEST + total.hexdigest()


def json_digest(value: object) -> str:
    """Digest of a value that JSON can hold."""
    return _DIGEST + hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _blocks(file: Path) -> bytes:
    """The whole of a small file or of a record, else blocks spread evenly over a large one."""
    size = file.stat().st_size
    if size <= _BLOCKS * _BLOCK_BYTES or file.suffix != ".safetensors":
        return file.read_bytes()
    with file.open("rb") as stream:
        parts = [stream.read(_BLOCK_BYTES)]
        for number in range(1, _BLOCKS):
            stream.seek(number * (size - _BLOCK_BYTES) // (_BLOCKS - 1))
            parts.append(stream.read(_BLOCK_BYTES))
    return b"".join(parts)

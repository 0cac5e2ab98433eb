"""The sections of a configuration that are about data: `prepare` and `cache`."""

from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic.fields import FieldInfo

from visual_planner.errors import brief

Positive = Annotated[int, Field(ge=1, le=2**53)]
Seed = Annotated[int, Field(ge=-(2**62), le=2**62)]
Stream = Annotated[int, Field(ge=0, le=2**32 - 1)]
"A seed for generators that take 32 bits, such as NumPy's, which every training seeds as well."


def _location(value: object) -> Path | str:
    if not isinstance(value, (str, Path)):
        raise ValueError(f"must be a folder or a URL, got {brief(value)}")
    return value if "://" in str(value) else Path(value)


Location = Annotated[Path | str, BeforeValidator(_location)]
"""A path, or a URL that fsspec understands: a path would lose the second slash of `s3://`."""


class Section(BaseModel):
    """A section that refuses keys it does not know, numbers that are not finite, and true and false as numbers."""

    model_config = ConfigDict(extra="forbid", validate_default=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _no_truth_as_number(cls, data: object) -> object:
        for name, value in data.items() if isinstance(data, dict) else ():
            field = cls.model_fields.get(name)
            if field is not None and not _takes(field.annotation, bool) and any(map(_is_truth, _parts(field, value))):
                raise ValueError(f"{name} must not be true or false, got {brief(value)}")
        return data


def _parts(field: FieldInfo, value: object) -> list:
    """The value, or the items of a list or of a mapping to numbers; a nested section checks its own values."""
    if isinstance(value, dict):
        return list(value.values()) if _takes(field.annotation, float) else []
    return value if isinstance(value, list) else [value]


def _is_truth(value: object) -> bool:
    return isinstance(value, bool)


def _takes(annotation: object, kind: type) -> bool:
    """Whether a type, or its items' type, accepts values of a kind."""
    return annotation is kind or any(_takes(part, kind) for part in get_args(annotation))


class PrepareSection(Section):
    """Episodes -> condition and target grids, prompts and overlays."""

    source: Path = Field(description="folder, file, or hf://OWNER/NAME of a LeRobot data set on the hub")
    out: Path = Field(description="folder of pairs to write")
    format: Literal["auto", "lerobot", "rlds", "videos", "frames", "grids", "simulated"] = Field(
        "auto", description="format of the source"
    )
    camera: str = Field("", description="camera to use (default: the first; an unknown name lists them all)")
    instructions: Path | None = Field(None, description="CSV, JSON lines or text, for folders of videos or frames")
    folders: Literal["auto", "cameras", "episodes"] = Field(
        "auto",
        description="what folders of videos or frames with the same names in them are, where names do not say it",
    )
    episodes: Positive | None = Field(None, description="use only this many episodes, from the first on")
    frames: Literal["uniform", "motion", "trim", "shape"] = Field(
        "uniform",
        description="frame selection: evenly in time, by equal amounts of motion, evenly between the idle ends, or "
        "where the end effector's path bends (needs states; the planner's record then says so: spec.keyframes)",
    )
    short: Literal["drop", "repeat", "error"] = Field(
        "error", description="episodes with fewer frames than cells: drop them, repeat the last frame, or refuse"
    )
    later_starts: Annotated[float, Field(ge=0.0, le=16.0)] = Field(
        0.0,
        description="pairs that begin at a random later moment, beside each episode's own (0.5: for every second "
        "episode): a planner that is to plan again while a task is under way must have seen such starts",
    )
    overlay: Literal["auto", "none", "recorded", "cameras", "tracked", "drawn", "cvat"] = Field(
        "auto",
        description="source of paths: recorded (simulated episodes), cameras (projected end-effector positions), "
        "tracked (optical flow from a click or a mask), drawn (trajectory JSON), cvat (its XML)",
    )
    overlay_data: Path | None = Field(None, description="file or folder that the overlay needs, see docs/data.md")
    states: str = Field("", description="feature with the end effector's position (default: the format's usual one)")
    gripper_column: int | None = Field(
        None, description="column of the states with the gripper, whose opening counts as a part of the path"
    )
    gripper_range: tuple[float, float] = Field((0.0, 1.0), description="its values when open and when closed")
    prompts: str = Field(
        "spec", description="spec: the spec's sentence; varied: many sentences; or a file of templates"
    )
    split: Literal["last", "random"] = Field("last", description="which episodes are held out")
    validation_episodes: Annotated[int, Field(ge=0)] = Field(32, description="number of held-out episodes")
    subsets: list[Positive] = Field(default_factory=list, description="sizes of nested training subsets [episodes]")
    broken: Literal["error", "skip"] = Field("error", description="episodes that cannot be used: refuse, or skip them")
    seed: Seed = Field(0, description="seed of the random split, the subsets, varied prompts and later starts")
    processes: Positive = Field(2, description="worker processes")


class CacheSection(Section):
    """Pairs -> latents and text embeddings on disk."""

    data: Path = Field(description="folder of pairs")
    base: Path = Field(description="diffusers folder of the FLUX pipeline whose VAE and text encoders are used")
    out: Location = Field(description="folder of the cache to write, or a URL for fsspec (s3://bucket/folder)")
    episodes: Positive | None = Field(
        None, description="cache only this many training episodes, the first in the order of the nested subsets"
    )
    batch_size: Positive = Field(16, description="images encoded at once")
    encode: Literal["grid", "cells"] = Field(
        "grid",
        description="targets: the whole grid at once, or frame by frame (only with conditions of the first cell)",
    )
    shard_size: Positive = Field(1024, description="images per shard")
    text_shard_size: Positive = Field(128, description="prompts per shard")
    text_tokens: Annotated[int, Field(ge=0, le=512)] = Field(
        512, description="text tokens (0: the tokenizer's maximum)"
    )
    dtype: Literal["float32", "bfloat16", "float16"] = Field("float32", description="dtype of the encoders")
    device: str = Field("auto", description="torch device, or auto")

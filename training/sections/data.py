"""The sections of a configuration that are about data: `prepare` and `cache`."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from visual_planner.errors import brief

Positive = Annotated[int, Field(ge=1)]


def _location(value: object) -> Path | str:
    if not isinstance(value, (str, Path)):
        raise ValueError(f"must be a folder or a URL, got {brief(value)}")
    return value if "://" in str(value) else Path(value)


Location = Annotated[Path | str, BeforeValidator(_location)]
"""A path, or a URL that fsspec understands: a path would lose the second slash of `s3://`."""


class Section(BaseModel):
    """A section that refuses keys it does not know."""

    model_config = ConfigDict(extra="forbid", validate_default=True)


class PrepareSection(Section):
    """Episodes → condition and target grids, prompts and overlays."""

    source: Path = Field(description="folder, file, or hub id of a LeRobot data set")
    out: Path = Field(description="folder of pairs to write")
    format: Literal["auto", "lerobot", "rlds", "videos", "frames", "grids", "simulated"] = Field(
        "auto", description="format of the source"
    )
    camera: str = Field("", description="camera to use (default: the first; an unknown name lists them all)")
    instructions: Path | None = Field(None, description="CSV, JSON lines or text, for folders of videos or frames")
    episodes: Positive | None = Field(None, description="use only this many episodes, from the first on")
    frames: Literal["uniform", "motion", "trim"] = Field(
        "uniform",
        description="frame selection: evenly in time, by equal amounts of motion, or evenly between the idle ends",
    )
    short: Literal["drop", "repeat", "error"] = Field(
        "error", description="episodes with fewer frames than cells: drop them, repeat the last frame, or refuse"
    )
    overlay: Literal["auto", "none", "recorded", "cameras", "tracked", "drawn", "cvat"] = Field(
        "auto",
        description="source of paths: recorded (simulated episodes), cameras (projected end-effector positions), "
        "tracked (optical flow from a click or a mask), drawn (trajectory JSON), cvat (its XML)",
    )
    overlay_data: Path | None = Field(None, description="file or folder that the overlay needs, see docs/data.md")
    states: str = Field("", description="feature with the end effector's position (default: the format's usual one)")
    prompts: str = Field(
        "spec", description="spec: the spec's sentence; varied: many sentences; or a file of templates"
    )
    split: Literal["last", "random"] = Field("last", description="which episodes are held out")
    validation_episodes: Annotated[int, Field(ge=0)] = Field(32, description="number of held-out episodes")
    subsets: list[Positive] = Field(default_factory=list, description="sizes of nested training subsets [episodes]")
    broken: Literal["error", "skip"] = Field("error", description="episodes that cannot be used: refuse, or skip them")
    seed: int = Field(0, description="seed of the random split, the subsets and varied prompts")
    processes: Positive = Field(2, description="worker processes")


class CacheSection(Section):
    """Pairs → latents and text embeddings on disk."""

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
    text_tokens: Annotated[int, Field(ge=0, le=512)] = Field(512, description="T5 tokens (0: the tokenizer's maximum)")
    dtype: Literal["float32", "bfloat16", "float16"] = Field("float32", description="dtype of the encoders")
    device: str = Field("auto", description="torch device, or auto")

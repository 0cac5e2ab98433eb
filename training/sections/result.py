"""The sections of a configuration that are about what was trained: `export` and `evaluate`."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from .data import Positive, Section, Seed


class ExportSection(Section):
    """A checkpoint -> one LoRA file for ComfyUI and diffusers."""

    run: Path = Field(description="folder of the training run")
    out: Path = Field(description="safetensors file to write")
    title: str = Field("Visual planner LoRA", description="shown by model browsers")
    averaged: bool = Field(True, description="export the EMA weights if the run has them")
    thumbnail: Path | None = Field(None, description="picture for model browsers (default: the run's last validation)")
    dtype: Literal["float32", "bfloat16", "float16"] = "bfloat16"


class EvaluateSection(Section):
    """Plans of unseen scenes against the truth."""

    source: Path = Field(description="folder of unseen episodes, or of pairs, whose validation split is planned")
    base: Path = Field(description="diffusers folder of the FLUX pipeline")
    lora: Path = Field(description="planner LoRA with its record")
    out: Path = Field(description="folder of metrics.json and pictures")
    scenes: Positive = Field(96, description="number of scenes")
    seed: Seed = Field(0, description="seed of the plans' noise")
    steps: Positive | None = Field(None, description="Euler steps (default: the record's)")
    cfg: Annotated[float, Field(ge=1)] | None = Field(
        None, description="classifier-free guidance (default: the record's; 1: without)"
    )
    batch_size: Positive = 16
    baselines: bool = Field(True, description="also plan without the LoRA")
    dtype: Literal["float32", "bfloat16", "float16"] = Field("float32", description="dtype of the weights")
    pictures: Positive = Field(12, description="scenes shown in the images")
    lpips: Path | None = Field(None, description="weights of LPIPS 0.1 on AlexNet (safetensors); none: not measured")
    fvd: Path | None = Field(None, description="weights of I3D, RGB, Kinetics-400 (safetensors); none: no FVD")
    threads: Annotated[int, Field(ge=0)] = Field(0, description="CPU threads (0: torch's default)")

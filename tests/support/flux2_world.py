"""A small world on a random tiny FLUX.2: episodes, base, pairs; the configuration of all commands."""

from __future__ import annotations

from pathlib import Path

from support.small_world import SPEC, config_for, write_episodes
from support.tiny_flux2 import write_tiny_flux2
from training.sections.config import Config


def flux2_config(folder: Path, spec: dict | None = None, **train) -> Config:
    """Configuration of all commands in `folder`; keywords change the section train."""
    values = config_for(folder).model_dump(exclude_none=True)
    del values["vae"], values["pretrain"]
    shift = {"base_shift": 2.02, "max_shift": 2.02}
    values["spec"] = {**SPEC, **shift, "family": "flux2", "position_ids": "kontext", **(spec or {})}
    values["cache"]["encode"] = "cells"
    values["train"] |= {"lora": {"rank": 4, "alpha": 8, "targets": "blocks"}, **train}
    if "out" in train:
        values["export"]["run"] = train["out"]
    return Config.model_validate(values)


def write_flux2_world(folder: Path, spec: dict | None = None, size: int = 32) -> Path:
    """Episodes, a random base, pairs and their cache in a folder."""
    from training.cache.write import cache
    from training.data.prepare import prepare

    write_episodes(folder / "episodes", size=size)
    write_tiny_flux2(folder / "base")
    config = flux2_config(folder, spec)
    prepare(config)
    cache(config)
    return folder

"""A small world for the training tests: drawn episodes, an untrained base and a finished cache."""

import json
import math

import numpy as np
from PIL import Image

from training.files import write_json
from training.sections.config import Config

SPEC = {
    "cell_height": 32,
    "cell_width": 32,
    "condition_tokens": "first_cell",
    "base_model": "test",
    "text_prompt": "nine frames: {instruction}",
    "trajectory_prompt": "nine frames along the path",
    "both_prompt": "nine frames along the path: {instruction}",
    "base_shift": math.log(5.0),
    "max_shift": math.log(5.0),
    "shift_counts_condition": False,
    "steps": 2,
}
EPISODES, FRAMES, SIZE = 6, 9, 32


def write_episodes(folder, kind="demonstrations", count=EPISODES, size=SIZE, seed=0):
    """An episode data set of squares that move over a noisy ground."""
    rng = np.random.default_rng(seed)
    (folder / "frames").mkdir(parents=True)
    lines = []
    for number in range(count):
        ground = rng.integers(0, 255, (size, size, 3), dtype=np.uint8)
        frames, path = [], []
        for step in range(FRAMES):
            frame = ground.copy()
            x = 4 + 2 * step
            frame[10:16, x : x + 6] = (255, 120, 0)
            frames.append(frame)
            path.append([x + 3.0, 13.0])
        Image.fromarray(np.concatenate(frames, axis=1)).save(folder / "frames" / f"{number:06d}.png")
        dense = [[7 + 16 * t / 32, 13.0, t / 32] for t in range(33)]
        play = kind == "play"
        lines.append(
            json.dumps(
                {
                    "id": f"{number:06d}",
                    "seed": number,
                    "task": "" if play else "push",
                    "instruction": "" if play else f"push the red cube number {number}",
                    "caption": "a table with a red cube",
                    "target": None if play else "red cube",
                    "objects": [{"name": "red cube", "shape": "cube", "color": "red"}],
                    "end_effector_px": path,
                    "path_px": dense,
                    "success": True,
                }
            )
        )
    (folder / "episodes.jsonl").write_text("\n".join(lines) + "\n")
    info = {"format": "visual_planner.episodes", "version": 1, "frames": FRAMES, "height": size, "width": size}
    write_json(folder / "dataset.json", {**info, "episodes": count, "kind": kind, "seed": 0})
    return folder


def config_for(folder, **train):
    """Configuration of all commands in `folder`; keywords change the train section."""
    run = {"max_steps": 1, "save_every": 10, "log_every": 1, "batch_size": 2}
    return Config.model_validate(
        {
            "spec": SPEC,
            "vae": {"source": [folder / "play"], "out": folder / "vae", **run},
            "pretrain": {
                "source": folder / "play", "vae": folder / "vae" / "vae", "base": folder / "base",
                "out": folder / "base_run", "heads": 1, "double_blocks": 1, "single_blocks": 1, **run,
            },
            "prepare": {
                "source": folder / "episodes", "out": folder / "pairs", "validation_episodes": 2, "processes": 1,
            },
            "cache": {
                "encode": "cells",
                "data": folder / "pairs", "base": folder / "base", "out": folder / "cache", "text_tokens": 0,
                "shard_size": 4, "batch_size": 2,
            },
            "train": {
                "base": folder / "base", "cache": folder / "cache", "out": folder / "lora", "base_dtype": "float32",
                "lora": {"rank": 4, "alpha": 4, "targets": "all_linear"},
                "optimizer": {"learning_rate": 0.01}, **run, **train,
            },
            "export": {
                "run": train.get("out", folder / "lora"), "out": folder / "planner.safetensors", "dtype": "float32",
            },
            "evaluate": {
                "source": folder / "episodes", "base": folder / "base", "lora": folder / "planner.safetensors",
                "out": folder / "evaluation", "scenes": 3, "batch_size": 2, "pictures": 2,
            },
        }
    )  # fmt: skip

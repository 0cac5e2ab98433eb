"""How time and memory of the commands before and after training grow with the number of episodes.

`python -m benchmarks.growth [--sizes 100,1000,10000] [--json FILE] [--plot FILE]` writes tiny simulated episodes, and a
base and a LoRA of one step, and runs each command in its own process: `prepare`, one of four shards of it and their
merge, `cache` and `evaluate`. Frames are as small as an autoencoder allows (32 px): the growth with the number of
episodes is the same for larger ones, which only add a constant cost per episode.

A process reports CPU seconds, including those of its children, wall seconds and its peak resident memory. The first two
depend on the machine; exponents and bytes per episode do not.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import json
import math
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from .harness import machine

SIZES = (100, 1000, 10000)
SHARDS, FRAMES, PX, INSTRUCTIONS = 4, 9, 32, 50
STEPS = ("prepare", "prepare_shard", "prepare_merge", "cache", "evaluate")
"""In the order in which each reads what those before it wrote."""
SPEC = {
    "cell_height": PX, "cell_width": PX, "condition_tokens": "first_cell", "base_model": "growth", "steps": 1,
    "modes": ["text"], "text_prompt": "nine frames: {instruction}", "base_shift": math.log(5.0),
    "max_shift": math.log(5.0), "shift_counts_condition": False,
}  # fmt: skip
_ONE = {"max_steps": 1, "save_every": 10, "log_every": 1, "batch_size": 2}


def write_episodes(folder: Path, count: int, kind: str = "demonstrations") -> None:
    """Write episodes of a square that moves over a noisy background, each with a path; `kind` as in the simulator."""
    rng = np.random.default_rng(0)
    (folder / "frames").mkdir(parents=True)
    with (folder / "episodes.jsonl").open("w", encoding="utf-8") as lines:
        for number in range(count):
            strip = np.tile(rng.integers(0, 255, (PX, PX, 3), dtype=np.uint8), (1, FRAMES, 1))
            for step in range(FRAMES):
                strip[10:16, step * PX + 4 + 2 * step : step * PX + 10 + 2 * step] = (255, 120, 0)
            Image.fromarray(strip).save(folder / "frames" / f"{number:07d}.png", compress_level=1)
            path = [[7 + 16 * t / 32, 13.0, t / 32] for t in range(33)]
            record = {
                "id": f"{number:07d}", "seed": number, "task": "push", "caption": "a table", "target": "red cube",
                "instruction": f"push the red cube number {number % INSTRUCTIONS}", "path_px": path, "success": True,
                "objects": [{"name": "red cube", "shape": "cube", "color": "red"}],
            }  # fmt: skip
            lines.write(json.dumps(record) + "\n")
    info = {"format": "visual_planner.episodes", "version": 1, "frames": FRAMES, "height": PX, "width": PX}
    (folder / "dataset.json").write_text(json.dumps({**info, "episodes": count, "kind": kind, "seed": 0}))


def configuration(folder: Path, tools: Path):
    """Configuration of all commands: episodes and results in `folder`, base and LoRA in `tools`."""
    from training.sections.config import Config

    return Config.model_validate(
        {
            "spec": SPEC,
            "vae": {"source": [tools / "play"], "out": tools / "vae", **_ONE},
            "pretrain": {
                "source": tools / "play", "vae": tools / "vae" / "vae", "base": tools / "base", "out": tools / "run",
                "heads": 1, "double_blocks": 1, "single_blocks": 1, "text_tokens": 64, **_ONE,
            },
            "prepare": {
                "source": folder / "episodes", "out": folder / "pairs", "validation_episodes": 8, "processes": 1,
            },
            "cache": {
                "data": folder / "pairs", "base": tools / "base", "out": folder / "cache", "text_tokens": 0,
                "shard_size": 256,
            },
            "train": {
                "base": tools / "base", "cache": folder / "cache", "out": tools / "lora", "base_dtype": "float32",
                "lora": {"rank": 4, "alpha": 4, "targets": "all_linear"}, "optimizer": {"learning_rate": 0.01}, **_ONE,
            },
            "export": {"run": tools / "lora", "out": tools / "planner.safetensors", "dtype": "float32"},
            "evaluate": {
                "source": folder / "episodes", "base": tools / "base", "lora": tools / "planner.safetensors",
                "out": folder / "evaluation", "scenes": 2**40, "baselines": False, "threads": 1,
            },
        }
    )  # fmt: skip


def write_tools(tools: Path) -> None:
    """Write a base of one block and a LoRA, each trained for a single step: enough to measure cost, not to plan."""
    from training.cache.write import cache
    from training.data.prepare import prepare
    from training.planner.export import export
    from training.planner.train import train
    from training.tiny_base.pretrain import pretrain
    from training.tiny_base.vae import train_vae

    write_episodes(tools / "play", 12, "play")
    write_episodes(tools / "episodes", 12)
    config = configuration(tools, tools)
    for command in (train_vae, pretrain, prepare, cache, train, export):
        command(config)


def step(name: str, folder: Path, tools: Path) -> None:
    """Run one command on the episodes of a folder."""
    from runtime.parts import Part
    from training.sections.sharding import Asked

    config = configuration(folder, tools)
    if name == "prepare":
        from training.data.prepare import prepare

        prepare(config)
    elif name.startswith("prepare_"):
        from training.data.prepare import prepare

        config.prepare.out = folder / "merged"
        prepare(config, Asked(merge=SHARDS) if name == "prepare_merge" else Asked(part=Part(0, SHARDS)))
    elif name == "cache":
        from training.cache.write import cache

        cache(config)
    else:
        from training.evaluation.evaluate import evaluate

        evaluate(config)


def measure(name: str, folder: Path, tools: Path) -> dict[str, float]:
    """Run a command in its own process.

    Returns:
        `cpu_s`, `wall_s` and `peak_mb` [10^6 bytes].
    """
    command = [
        sys.executable,
        "-m",
        "benchmarks.growth",
        "--step",
        name,
        "--folder",
        str(folder),
        "--tools",
        str(tools),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{name} failed: {done.stderr[-500:]}")
    return json.loads(done.stdout.splitlines()[-1])


def told(run: Callable[[], None]) -> dict[str, float]:
    """Cost of a function to this process and its children."""
    start = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        run()
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    scale = 1 if sys.platform == "darwin" else 1024
    return {
        "cpu_s": round(sum(one.ru_utime + one.ru_stime for one in used), 3),
        "wall_s": round(time.perf_counter() - start, 3),
        "peak_mb": round(max(one.ru_maxrss for one in used) * scale / 1e6, 2),
    }


def table_of(sizes: list[int], steps: list[str]) -> dict[str, dict[str, dict[str, float]]]:
    """Step -> number of episodes -> cost."""
    rows: dict[str, dict[str, dict[str, float]]] = {name: {} for name in steps}
    with tempfile.TemporaryDirectory(prefix="visual-planner-growth-") as name:
        tools = Path(name) / "tools"
        if {"cache", "evaluate"} & set(steps):
            subprocess.run([sys.executable, "-m", "benchmarks.growth", "--tools", str(tools)], check=True)
        for size in sizes:
            folder = Path(name) / str(size)
            write_episodes(folder / "episodes", size)
            for one in steps:
                if one == "prepare_merge":  # make the other shards, which are not measured
                    _make_shards(folder, tools)
                rows[one][str(size)] = found = measure(one, folder, tools)
                print(f"{one:14} {size:>7}  {found['cpu_s']:9.2f} s CPU  {found['peak_mb']:9.1f} MB", flush=True)
                if one == "prepare_merge":
                    rows[one][str(size)]["same_bytes"] = _same(folder / "pairs", folder / "merged")
                    shutil.rmtree(folder / "merged")
            shutil.rmtree(folder)
    return rows


def _make_shards(folder: Path, tools: Path) -> None:
    from runtime.parts import Part
    from training.data.prepare import prepare
    from training.sections.sharding import Asked

    config = configuration(folder, tools)
    config.prepare.out = folder / "merged"
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        for number in range(1, SHARDS):
            prepare(config, Asked(part=Part(number, SHARDS)))


def _same(one: Path, other: Path) -> bool:
    """Whether two folders of pairs hold the same bytes, except for the folder's own name in dataset.json."""
    files = sorted(path.relative_to(one) for path in one.rglob("*") if path.is_file())
    if files != sorted(path.relative_to(other) for path in other.rglob("*") if path.is_file()):
        return False
    return all(
        (one / file).read_bytes() == (other / file).read_bytes().replace(str(other).encode(), str(one).encode())
        for file in files
    )


def summary(rows: dict[str, dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """For each step, between the two largest sizes: seconds and bytes per further episode, and the exponent of time."""
    result = {}
    for name, found in rows.items():
        sizes = sorted(map(int, found))
        low, high = (found[str(size)] for size in sizes[-2:])
        more, start = sizes[-1] - sizes[-2], found[str(sizes[0])]
        each = (high["cpu_s"] - low["cpu_s"]) / more
        fixed = max(0.0, start["cpu_s"] - each * sizes[0])
        result[name] = {
            "cpu_s_per_episode": round(each, 6),
            "start_s": round(fixed, 2),
            "exponent": round(_exponent(low["cpu_s"] - fixed, high["cpu_s"] - fixed, *sizes[-2:]), 3),
            "bytes_per_episode": round((high["peak_mb"] - low["peak_mb"]) * 1e6 / more),
            "cpu_s_of_1e6": round(fixed + each * 1e6),
            "peak_mb_of_1e6": round(high["peak_mb"] + (high["peak_mb"] - low["peak_mb"]) / more * (1e6 - sizes[-1])),
        }
    return result


def _exponent(low: float, high: float, few: int, many: int) -> float:
    """Exponent p of cost ~ episodes^p: 1 is a straight line of slope 1 in a log-log plot."""
    return math.log(max(high, 1e-9) / max(low, 1e-9)) / math.log(many / few)


def plot(record: dict, file: Path) -> None:
    """Seconds and peak memory over episodes, both axes logarithmic; dashed: exactly proportional."""
    from training.evaluation.charts import GREY, figure

    made, (time_axis, memory_axis) = figure(9.0, 3.8, 2)
    for name, found in record["rows"].items():
        sizes = sorted(map(int, found))
        label = name.replace("prepare_shard", "prepare, shard 0/4").replace("prepare_merge", "prepare, merge of 4")
        time_axis.plot(sizes, [found[str(size)]["cpu_s"] for size in sizes], "o-", label=label)
        memory_axis.plot(sizes, [found[str(size)]["peak_mb"] for size in sizes], "o-", label=label)
    ends = [sizes[0], sizes[-1]]
    top = max(found[str(sizes[-1])]["cpu_s"] for found in record["rows"].values())
    time_axis.plot(ends, [top * size / ends[1] for size in ends], "--", color=GREY, label="proportional")
    for axis, label in ((time_axis, "CPU time [s]"), (memory_axis, "peak memory [MB]")):
        axis.set(xscale="log", yscale="log", xlabel="episodes", ylabel=label)
        axis.set_ylim(*(_decades(axis.get_ylim())))
        axis.grid(True, which="major", color="#eeeeee")
    lines = time_axis.get_legend_handles_labels()
    memory_axis.legend(*lines, frameon=False, fontsize=8, loc="upper right")  # where no line runs
    made.savefig(file, dpi=150, metadata={"Software": None})


def _decades(limits: tuple[float, float]) -> tuple[float, float]:
    return 10 ** math.floor(math.log10(limits[0])), 10 ** math.ceil(math.log10(limits[1]))


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark, or one step of it in this process."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__.partition("\n")[0])
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)), help="numbers of episodes, ascending")
    parser.add_argument("--steps", default=",".join(STEPS), help=f"some of {', '.join(STEPS)}, in this order")
    parser.add_argument("--json", type=Path, help="file for the results")
    parser.add_argument("--plot", type=Path, help="PNG file for the plot")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--tools", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.step:
        print(json.dumps(told(lambda: step(options.step, options.folder, options.tools))))
        return 0
    if options.tools:
        told(lambda: write_tools(options.tools))
        return 0
    steps = options.steps.split(",")
    if unknown := [name for name in steps if name not in STEPS]:
        parser.error(f"--steps must be some of {', '.join(STEPS)}, got {', '.join(unknown)}")
    parts = options.sizes.split(",")
    sizes = [int(part) for part in parts] if all(re.fullmatch(r"\s*[0-9]{1,9}\s*", part) for part in parts) else []
    if len(sizes) < 2 or not all(low < high for low, high in itertools.pairwise([0, *sizes])):
        parser.error(f"--sizes must be two or more ascending whole numbers such as 100,1000, got {options.sizes}")
    rows = table_of(sizes, steps)
    record = {"rows": rows, "summary": summary(rows), "machine": machine(), "nice": os.nice(0)}
    print(json.dumps(record["summary"], indent=2))
    if options.json:
        options.json.write_text(json.dumps(record, indent=2) + "\n")
    if options.plot:
        plot(record, options.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The measuring process of the conditioning benchmark: `conditioning_probe.py COMFYUI SETTING`.

It prints one line for each case that has run, and finally the result as one line of JSON.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BLOCKS = 2
KILOBYTE, MEGABYTE = 1024, 1e6


def make_network(family: str, heads: int, device):
    """FLUX with one block of each kind and random weights, in a dtype that is fast on the device."""
    import comfy.ldm.flux.model
    import comfy.ops
    import torch

    from benchmarks.native import settings_of

    number_type = torch.float32 if device.type == "cpu" else torch.bfloat16
    network = comfy.ldm.flux.model.Flux(
        **settings_of(family, heads, 1, 1), dtype=number_type, device=device,
        operations=comfy.ops.disable_weight_init,
    )  # fmt: skip
    generator = torch.Generator(device).manual_seed(0)
    for parameter in network.parameters():
        if parameter.ndim == 2:
            parameter.normal_(0, 0.7 / parameter.shape[1] ** 0.5, generator=generator)
        else:
            parameter.fill_(0.5)
    return network.eval()


class Watch:
    """Runs a case, prints how long it took, and keeps the peak of additional memory [MB].

    Args:
        name: name of the case.
        case: function to run.
        clock: clock [s].
        on_gpu: whether memory is the GPU's; otherwise it is the process's, if the system reports it.
    """

    def __init__(self, name: str, case, clock, on_gpu: bool) -> None:
        self.name, self.case, self.clock, self.on_gpu = name, case, clock, on_gpu
        self.megabytes: float | None = None

    def __call__(self) -> None:
        """Run it."""
        before = self._mark()
        started = self.clock()
        self.case()
        if self.on_gpu:
            self._wait()
        print(f"{self.name}: {self.clock() - started:.3f} s", flush=True)
        if before is not None:
            self.megabytes = max(self.megabytes or 0.0, (self._peak() - before) / MEGABYTE)

    @staticmethod
    def _wait() -> None:
        import torch

        torch.cuda.synchronize()

    def _mark(self) -> float | None:
        """Reset the peak; returns the memory in use [bytes], None if the system does not report it."""
        import torch

        if self.on_gpu:
            torch.cuda.reset_peak_memory_stats()
            return torch.cuda.memory_allocated()
        marker = Path("/proc/self/clear_refs")
        if not marker.exists():
            return None
        marker.write_text("5", encoding="ascii")
        return _status("VmRSS") * KILOBYTE

    def _peak(self) -> float:
        import torch

        return torch.cuda.max_memory_allocated() if self.on_gpu else _status("VmHWM") * KILOBYTE


def _status(name: str) -> int:
    """A number of kilobytes from this process's status."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith(f"{name}:")).split()[1])


def load_plugin(base: Path) -> str:
    """Let ComfyUI load our plugin, and return the name of its package."""
    import nodes

    link = base / "visual_planner_pack"
    link.symlink_to(ROOT, target_is_directory=True)
    if not asyncio.run(nodes.load_custom_node(str(link))):
        sys.exit("ComfyUI could not load the plugin")
    return str(link).replace(".", "_x_")


def main(comfyui: str, setting: dict) -> dict:
    """Measure and return the result."""
    sys.path.insert(0, comfyui)
    import torch
    from comfy.cli_args import args

    args.cpu = not torch.cuda.is_available()
    logging.disable(logging.WARNING)
    sys.path.append(str(ROOT))
    from benchmarks.harness import interleave
    from benchmarks.native import Step, pass_of_the_condition

    device = torch.device("cpu" if args.cpu else "cuda")
    with tempfile.TemporaryDirectory() as folder:
        plugin = load_plugin(Path(folder))
        spec_of = importlib.import_module(f"{plugin}.visual_planner.planner.spec").PlannerSpec
        size = {"cell_height": setting["cell_height"], "cell_width": setting["cell_width"]}
        with torch.inference_mode():
            cases, tokens, kept, networks = {}, {}, {}, {}
            for family, prefix in setting["families"].items():
                networks[family] = make_network(family, setting["heads"], device)
                for way in ("full_grid", "first_cell", "first_cell_cached", "none"):
                    known = {"family": family, "condition_tokens": "first_cell" if way == "none" else way, **size}
                    spec = spec_of(**known)
                    step = Step(networks[family], plugin, spec, setting["words"], way != "none")
                    cases[f"{prefix}{way}"] = step
                    tokens[way] = 0 if way == "none" else spec.conditioning_tokens
                    if way == "first_cell_cached":
                        # It also warms up, and leaves the cached condition in place for the steps.
                        once, kept[family] = pass_of_the_condition(step, plugin, spec)
                        cases[f"{prefix}{setting['once']}"] = once
            # On a CPU measure CPU time, so that other programs matter less.
            clock = time.process_time if args.cpu else time.perf_counter
            watches = {name: Watch(name, case, clock, device.type == "cuda") for name, case in cases.items()}
            seconds = interleave(watches, setting["repeats"], warmup=0, clock=clock)
    network = networks["flux1"]
    return {
        "seconds": seconds,
        "megabytes": {name: case.megabytes for name, case in watches.items()},
        "kept_megabytes_a_block": {family: size / BLOCKS / MEGABYTE for family, size in kept.items()},
        "tokens": {"text": setting["words"], "grid": spec.target_tokens, "condition": tokens},
        "device": f"{device.type}, {network.img_in.weight.dtype}, {torch.get_num_threads()} threads",
    }


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], json.loads(sys.argv[2]))))

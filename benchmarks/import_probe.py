"""One process of the import benchmark: `import_probe.py COMFYUI BASE PACK...`; the last line of its output is JSON."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import time

HEAVY = ("cv2", "diffusers", "dm_control", "matplotlib", "mujoco", "peft", "tensorboard", "transformers")


def main(comfyui: str, base: str, packs: list[str]) -> None:
    """Load ComfyUI's own nodes, then time the loading of each pack."""
    started = time.perf_counter()
    sys.path.insert(0, comfyui)
    from comfy.cli_args import args

    args.cpu = True
    args.base_directory = base
    logging.disable(logging.WARNING)
    import nodes

    asyncio.run(nodes.init_builtin_extra_nodes())
    milliseconds, heavy = {"comfyui_itself": (time.perf_counter() - started) * 1000}, []
    for pack in packs:
        before = set(sys.modules)
        started = time.perf_counter()
        loaded = asyncio.run(nodes.load_custom_node(os.path.join(base, "custom_nodes", pack)))
        milliseconds[pack] = (time.perf_counter() - started) * 1000
        if not loaded:
            sys.exit(f"ComfyUI could not load the pack {pack}")
        heavy += [name for name in HEAVY if name in sys.modules and name not in before]
    print(json.dumps({"milliseconds": milliseconds, "heavy": sorted(set(heavy))}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])

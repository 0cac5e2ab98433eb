"""Training of planner LoRAs: episodes in, a LoRA with its PlannerSpec out (`python -m training --help`)."""

import logging

# bitsandbytes, which diffusers imports where it is installed, warns on every start about an optional kernel for CPUs.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)

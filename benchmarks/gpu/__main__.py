"""`python -m benchmarks.gpu`: `run.py bench gpu` in the current Python, for machines without internet."""

import sys

from launcher.errors import exit_code_of
from launcher.options import gpu_parser
from runtime.entry import end_on_signals

from .command import run_gpu

if __name__ == "__main__":
    end_on_signals()
    options = gpu_parser().parse_args()
    sys.exit(exit_code_of(lambda: run_gpu(options)))

"""Second half of every command: runs in `.venv`, where everything is installed."""

from __future__ import annotations

import os
import sys

from runtime.entry import end_on_signals

from .errors import exit_code_of
from .options import build_parser


def main(arguments: list[str] | None = None) -> int:
    """Run one command.

    Returns:
        Exit code: 0 done, 1 a problem reported in one line, 2 wrong usage, 130 interrupted; for tests, pytest's.
    """
    options = build_parser().parse_args(arguments)
    return exit_code_of(lambda: _run(options))


def _run(options) -> int:
    # Imported here: `test` must not load what only the demo needs, and vice versa.
    if options.command == "test":
        from .testing import run_tests

        return run_tests(options.arguments)
    if options.command == "bench":
        from benchmarks import GPU, require_own_options, run_benchmarks

        require_own_options(options)
        if options.name == GPU:
            from benchmarks.gpu.command import run_gpu

            return run_gpu(options)
        return run_benchmarks(options.name, options.json, options.repeats)
    if options.command == "serve":
        from .serve import serve

        return serve(options.port, open_browser=not options.no_browser)
    from .demo import run_demo

    return run_demo(options)


if __name__ == "__main__":
    end_on_signals()
    # Set by the first half so that this package is found; our own child processes must not inherit it.
    os.environ.pop("PYTHONPATH", None)
    sys.exit(main())

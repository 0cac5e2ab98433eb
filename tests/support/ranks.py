"""Processes of a launcher, forked from one that has imported what they need: an import takes longer than the work."""

import importlib
import multiprocessing
import os
import socket

PRELOADED = ["training.planner.train", "training.cache.write", "training.evaluation.evaluate", "training.loop.loop"]
"""Of all tests: a test process has one such server, whoever starts it."""


def forkserver() -> multiprocessing.context.ForkServerContext:
    """Context whose processes begin with the training's modules imported, and with nothing else of this process."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


def launch(function: str, config: object, processes: int) -> None:
    """Call "module:function" with a configuration, as each of the processes that a launcher would start."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = [
        forkserver().Process(target=_work_as, args=(function, config, rank, processes, port))
        for rank in range(processes)
    ]
    for process in started:
        process.start()
    for process in started:
        process.join()
    assert [process.exitcode for process in started] == [0] * processes


def _work_as(function: str, config: object, rank: int, processes: int, port: int) -> None:
    """One process, by the variables that torchrun and accelerate set."""
    os.environ |= {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    module, _, name = function.partition(":")
    getattr(importlib.import_module(module), name)(config)

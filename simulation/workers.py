"""Distribute work over several processes, which end with the one that started them, however it ends.

Imports nothing of the simulation: `training` distributes its work in the same way.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor


def in_processes(
    work: Callable, items: Iterable, processes: int, start: Callable, arguments: tuple = (), chunksize: int = 1
) -> Iterator:
    """Yield `work(item)` of each item, in order.

    Args:
        work: a function of a module, called in the workers.
        items: what to work on.
        processes: number of workers.
        start: called with `arguments` in each worker before its first item; a function of a module, too.
        arguments: sent to each worker once.
        chunksize: how many consecutive items go to the same worker.

    Raises:
        BrokenProcessPool: a worker died (killed, or out of memory).
    """
    # spawn: neither an OpenGL context nor the threads of torch survive a fork
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(processes, context, _start_worker, (start, arguments))
    try:
        yield from pool.map(work, items, chunksize=chunksize)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start_worker(start: Callable, arguments: tuple) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # only the parent handles Ctrl-C
    threading.Thread(target=_end_with_parent, daemon=True).start()
    start(*arguments)


def _end_with_parent() -> None:
    """End when the parent does: otherwise a worker whose parent was killed would wait for work forever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)

"""The program that runs a server's worlds in a separate process, since the server's own may not be able to render.

A server loads OpenGL libraries for its own purposes (ComfyUI 0.33: ANGLE's), and two of them conflict in one process.
`nodes.comfy.processes.child` starts this program, sends it questions over standard input and output, and ends it.

Frames in both directions: 8 bytes with the length (little endian), then a pickle. A question is (world, call,
arguments), an answer (kind, value): "value"; "refused" with a line for the user; "failed" with a line on an
unexpected error, and its traceback.
"""

import importlib
import os
import pickle
import queue
import signal
import struct
import sys
import threading
import time
import traceback
from typing import Any, BinaryIO

from visual_planner.errors import PlannerError

from .calls import Calls

CALLS = {"jaco": "worlds.jaco_calls"}
"""Name of a world -> module whose functions in `CALLS` may be called; other worlds use `Calls`."""
_others: dict[str, Calls] = {}
LENGTH = struct.Struct("<Q")
_LOOK_S = 1.0
"""Interval between checks that the server still runs [s]."""


def main() -> None:
    """Answer questions until the server closes the pipe or ends."""
    questions, answers = _own_pipes()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # only the server handles Ctrl-C
    waiting: queue.Queue[bytes] = queue.Queue()
    threading.Thread(target=_read, args=(questions, waiting), daemon=True).start()
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    while True:
        answer = pickle.dumps(answer_to(*pickle.loads(waiting.get())), protocol=5)
        answers.write(LENGTH.pack(len(answer)) + answer)
        answers.flush()


def answer_to(world: str, call: str, arguments: dict[str, Any]) -> tuple[str, Any]:
    """Kind and value of the answer to one question."""
    try:
        own = CALLS.get(world)
        module = _others.setdefault(world, Calls(world)) if own is None else importlib.import_module(own)
        if call not in module.CALLS:
            raise PlannerError(f"call must be one of {', '.join(module.CALLS)} in world {world}, got {call!r}")
        return "value", getattr(module, call)(**arguments)
    except PlannerError as error:
        return "refused", str(error)
    except Exception as error:  # the server must learn of any error
        return "failed", (str(PlannerError(f"{type(error).__name__}: {error}")), traceback.format_exc())


def _own_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Reserve standard input and output for the questions: what a library prints goes to standard error."""
    questions, answers = (os.fdopen(os.dup(number), mode) for number, mode in ((0, "rb"), (1, "wb")))
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return questions, answers


def _read(questions: BinaryIO, waiting: "queue.Queue[bytes]") -> None:
    """Pass the questions on; when the pipe is closed this process ends, whatever it is doing."""
    while len(head := questions.read(LENGTH.size)) == LENGTH.size:
        waiting.put(questions.read(LENGTH.unpack(head)[0]))
    os._exit(0)


def _end_with(parent: int) -> None:
    """End when the server is gone: its pipe does not show that if another of its children holds the pipe open."""
    while os.getppid() == parent:
        time.sleep(_LOOK_S)
    os._exit(0)

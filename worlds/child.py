"""The program in which a server's worlds live: a process of its own, since a server's own may not be able to render.

A server loads OpenGL libraries for purposes of its own (ComfyUI 0.33: ANGLE's), and two of them do not get along in one
process. `nodes.comfy.processes.child` starts this program, asks it over its standard input and output, and ends it.

Frames in both directions: 8 bytes with the length (little endian), then a pickle. A question is (world, call,
arguments), an answer (kind, value): "value"; "refused" with a line for the user; "failed" with a line on an error that
nobody expected, and its traceback.
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
"""Module of a world, by name, whose functions named in its `CALLS` are what may be asked; of the others, `Calls`."""
_others: dict[str, Calls] = {}
LENGTH = struct.Struct("<Q")
_LOOK_S = 1.0
"""Pause between two looks whether the server still lives [s]."""


def main() -> None:
    """Answer questions until the server closes the pipe or is no more."""
    questions, answers = _own_pipes()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the server alone answers Ctrl-C
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
    except Exception as error:  # the server must hear of anything
        return "failed", (str(PlannerError(f"{type(error).__name__}: {error}")), traceback.format_exc())


def _own_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Standard input and output for the questions alone: what a library prints goes to standard error."""
    questions, answers = (os.fdopen(os.dup(number), mode) for number, mode in ((0, "rb"), (1, "wb")))
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return questions, answers


def _read(questions: BinaryIO, waiting: "queue.Queue[bytes]") -> None:
    """Pass the questions on; the end of the pipe is the end of this process, whatever it is doing."""
    while len(head := questions.read(LENGTH.size)) == LENGTH.size:
        waiting.put(questions.read(LENGTH.unpack(head)[0]))
    os._exit(0)


def _end_with(parent: int) -> None:
    """End when the server is gone: its pipe alone does not tell where another of its children holds the pipe open."""
    while os.getppid() == parent:
        time.sleep(_LOOK_S)
    os._exit(0)

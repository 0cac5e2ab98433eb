"""Last handler of a node's errors: one line for the user, with the traceback in ComfyUI's log."""

import functools
import logging

import torch
from comfy_api.latest import io

from ..visual_planner.errors import PlannerError, plain

_LONGEST = 300
_log = logging.getLogger("visual_planner")


class UnexpectedError(PlannerError):
    """A node ended in an unexpected error; the traceback is in the log."""


def guarded(node: type[io.ComfyNode]) -> type[io.ComfyNode]:
    """Make the `execute` of a node class turn an unexpected error into one line; returns the class.

    The project's own errors, ComfyUI's interrupt and out-of-memory errors pass unchanged: each has a meaning for its
    handler.

    Raises:
        UnexpectedError: raised by the class's `execute` from then on.
    """
    inner = node.execute.__func__

    @functools.wraps(inner)
    def execute(cls: type[io.ComfyNode], *arguments, **inputs):
        try:
            return inner(cls, *arguments, **inputs)
        except PlannerError:
            raise
        except Exception as error:
            if _comfyui_handles(error):
                raise
            _log.error("unexpected error in the node %s", node.__name__, exc_info=error)
            raise UnexpectedError(_line(error)) from error

    node.execute = classmethod(execute)
    return node


def _line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        where = f" ({plain(error.filename, _LONGEST)})" if error.filename else ""
        return f"{error.strerror}{where}; the traceback is in ComfyUI's log"
    text = plain(" ".join(str(error).split()), _LONGEST)
    return f"unexpected {type(error).__name__}{': ' if text else ''}{text}; the traceback is in ComfyUI's log"


def _comfyui_handles(error: Exception) -> bool:
    """Whether ComfyUI itself handles an error: an interrupt, or out of memory, upon which it unloads models."""
    import comfy.model_management  # looks for a GPU: not when the plugin is imported

    if isinstance(error, comfy.model_management.InterruptProcessingException):
        return True
    kinds = {MemoryError, torch.OutOfMemoryError, comfy.model_management.OOM_EXCEPTION} - {Exception}
    return isinstance(error, tuple(kinds)) or (isinstance(error, RuntimeError) and "out of memory" in str(error))

"""Link a planner's conditioning to the planner's model: a mark that only that model reads, and checks of each run.

The Condition node's output is ordinary conditioning with one more reference latent. A model without the planner's patch
would take that latent for a picture beside the grid, and a patched model without the latent would plan blindly: either
gives plans that look like failures of the planner. So the conditioning carries a mark that stops a model without the
patch, and the patch checks whether there is a marked conditioning, and whether it was really reached.
"""

import traceback
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ....visual_planner.errors import ConditioningError, plain

KEY = "visual_planner"
"""Name of the mark among a conditioning's `model_conds`, and of the argument in which it reaches the network."""
RUN = "visual_planner.run"
"""Key in `transformer_options` of what is known about a run."""
POSITIVE = 0
"""Number of the positive conditioning in `cond_or_uncond`, used if nothing is known about the run."""
_NEGATIVE = "negative"
"""Part of the name that guiders give to conditioning that is steered away from."""
_patched: ContextVar[bool] = ContextVar("visual_planner.patched", default=False)


@dataclass(frozen=True)
class Mark:
    """Marks one of a conditioning's reference latents as the planner's.

    Args:
        place: its number among them.
    """

    place: int

    @property
    def dtype(self):
        """Absent for a planner's model; an error for any other.

        ComfyUI asks every value that goes to a network for its dtype, which is the only moment at which a model
        without the planner's patch looks at the mark.

        Raises:
            ConditioningError: the model lacks the planner's patch.
        """
        if _patched.get():
            raise AttributeError("dtype")
        raise ConditioningError(
            "model must come from the Condition node that the positive conditioning comes from, but the sampler's "
            "model lacks the planner's patch: connect that node's model output to the sampler, not the loader's"
        )


def marked(settings: Mapping[str, Any], place: int) -> dict[str, Any]:
    """A conditioning's settings with the mark in them."""
    import comfy.conds

    mark = comfy.conds.CONDConstant(Mark(place))
    return {**settings, "model_conds": {**settings.get("model_conds", {}), KEY: mark}}


def place_of(settings: Mapping[str, Any]) -> int | None:
    """Number of the planner's condition among a conditioning's reference latents; None without a mark."""
    mark = settings.get("model_conds", {}).get(KEY)
    return None if mark is None else mark.cond.place


def around_run(executor, *args, **kwargs):
    """Wrapper around a sampling run: refuse one whose positive conditioning is not connected.

    Raises:
        ConditioningError: no conditioning but a negative one carries the mark.
    """
    guider = executor.class_obj
    conds = {name: conds or [] for name, conds in guider.conds.items()}
    asked = [conds for name, conds in conds.items() if _NEGATIVE not in name] or list(conds.values())
    if all(place_of(settings) is None for group in asked for settings in group):
        refuse_unmarked()
    # These options are a copy that ComfyUI made for this run.
    options = guider.model_options.setdefault("transformer_options", {})
    options[RUN] = {}
    try:
        return executor(*args, **kwargs)
    finally:
        options.pop(RUN, None)


def around_call(executor, x, t, c_concat=None, c_crossattn=None, control=None, transformer_options=None, **kwargs):
    """Wrapper around a call of the model that lets the mark pass and requires it to arrive.

    Raises:
        ConditioningError: another node has replaced the network's forward, from which its wrappers are called.
    """
    arrived: list[bool] = []
    options = {**(transformer_options or {}), KEY: arrived}
    before = _patched.set(True)
    try:
        result = executor(x, t, c_concat, c_crossattn, control, options, **kwargs)
    finally:
        _patched.reset(before)
    network = _plain(executor.class_obj.diffusion_model)
    if KEY in kwargs and not arrived and _replaced(network, "forward"):  # otherwise a caching node skipped the call
        refuse_bypassed(network)
    return result


def noting(executor) -> list[bool]:
    """A list that is filled when the network itself runs, which a wrapper that caches whole calls may skip.

    The network's run raises a ConditioningError if another node's function in it is called with unknown arguments.
    """
    ran: list[bool] = []
    original, network = executor.original, executor.class_obj

    def noting(*args, **kwargs):
        ran.append(True)
        try:
            return original(*args, **kwargs)
        except TypeError as error:
            _refuse_misfit(network, error)
            raise

    executor.original = noting  # for this call only: ComfyUI makes new executors for each
    return ran


def require_known(run: dict | None, options: dict) -> None:
    """Refuse a positive conditioning without a condition, unless a check of the whole run has allowed it."""
    if run is None and POSITIVE in options.get("cond_or_uncond", ()):
        refuse_unmarked()


def refuse_unmarked() -> None:
    """Raise the error that a planner's model got no planner's conditioning."""
    raise ConditioningError(
        "positive conditioning must come from the Condition node that the model comes from, but it carries no "
        "first frame: connect that node's positive output to the sampler"
    )


def refuse_bypassed(network) -> None:
    """Raise the error that the planner's patch did not run in a network, naming the function that runs instead."""
    found = _replacements(network)
    if found:
        name, function = found[-1]
        cause = f"{_origin(function)} replaces its {name} ({function.__qualname__})"
    else:
        cause = "another node replaces its forward"
    raise ConditioningError(
        f"the planner's patch must run inside the model, but {cause} and leaves the patch out, so that the first frame "
        "would have no place: remove that node from the planner's model"
    )


def _refuse_misfit(network, error: TypeError) -> None:
    """Raise a ConditioningError if the error is that a replaced method could not be called."""
    ran = {frame.f_code for frame, _ in traceback.walk_tb(error.__traceback__)}
    for name, function in _replacements(network):
        if function.__name__ in str(error) and getattr(function, "__code__", None) not in ran:
            raise ConditioningError(
                f"the network must run as this version of ComfyUI calls it, but {_origin(function)} replaces its "
                f"{name} with a function for another version ({plain(str(error))}): update or remove that node"
            ) from error


def _replacements(network) -> list[tuple[str, Callable]]:
    """Names of the network's methods that other nodes have replaced, and their replacements."""
    names = ("forward", "_forward", "forward_orig")
    return [(name, function) for name in names if (function := _replaced(network, name)) is not None]


def _plain(network):
    """The network itself, without the wrapper of torch.compile."""
    return getattr(network, "_orig_mod", network)


def _replaced(network, name: str) -> Callable | None:
    """The function that runs in place of a method of ComfyUI's network; None if it is ComfyUI's own."""
    function = getattr(network, name, None)
    while (inner := next((getattr(function, part) for part in ("__func__", "func", "__wrapped__")
                          if hasattr(function, part)), None)) is not None:  # fmt: skip
        function = inner
    own = next((vars(kind)[name] for kind in type(network).__mro__ if name in vars(kind)), None)
    same = function is own and getattr(function, "__module__", "").startswith("comfy.")
    return None if function is None or same or not hasattr(function, "__qualname__") else function


def _origin(function: Callable) -> str:
    """The pack that a function comes from, by its folder in custom_nodes, or else its module."""
    file = Path(getattr(getattr(function, "__code__", None), "co_filename", ""))
    names = file.parts
    if "custom_nodes" in names[:-1]:
        return names[names.index("custom_nodes") + 1].removesuffix(".py")
    return f"another node's module {getattr(function, '__module__', '?')}"

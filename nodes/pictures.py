"""Convert inputs from IMAGE and MASK wires to the form that this pack works with, in one place for every node.

Packs put all kinds of tensors on these wires: half precision, gradients, GPU memory, one channel or two, a picture
without a batch dimension. A picture in the usual form, (B, h, w, 3 or 4) float32, stays the same tensor.
"""

from collections.abc import Callable
from functools import wraps

import torch

from ..visual_planner.errors import ImageError, TrajectoryError
from ..visual_planner.grid.frame import to_rgb


def pictures(*names: str, cpu: bool = False) -> Callable[[Callable], Callable]:
    """Decorator of a node's `execute` that converts the named inputs to pictures, unless they are not connected.

    Args:
        names: names of IMAGE inputs.
        cpu: move them to the CPU, for nodes that draw on them or measure them with other libraries.
    """

    def around(execute: Callable) -> Callable:
        @wraps(execute)
        def brought(cls, **inputs):
            for name in names:
                if inputs.get(name) is not None:
                    picture = picture_of(inputs[name], name)
                    inputs[name] = picture.cpu() if cpu else picture
            return execute(cls, **inputs)

        return brought

    return around


def picture_of(image: object, name: str) -> torch.Tensor:
    """An IMAGE as (B, h, w, 3 or 4) float32 without gradients, on its own device.

    Args:
        image: (B, h, w, C) with 1 to 4 channels (grey, grey and alpha, RGB, RGBA), of any dtype; also (h, w, C), and
            grey pictures (B, h, w) or (h, w). Integers count to 255 or 65535 as in `frame.to_rgb`.
        name: name of the input, for messages.

    Raises:
        ImageError: it is not a picture, or has values that are not finite.
    """
    if not isinstance(image, torch.Tensor):
        raise ImageError(f"{name} must be an image, got {type(image).__name__}")
    image, shape = image.detach(), tuple(image.shape)
    if image.ndim == 2 or (image.ndim == 3 and shape[-1] > 4):
        image = image[..., None]
    if image.ndim == 3:
        image = image[None]
    if image.ndim != 4 or 0 in shape or image.shape[-1] > 4:
        raise ImageError(f"{name} must have shape (B, h, w, C) with 1 to 4 channels and none of them 0, got {shape}")
    if not image.is_floating_point() or image.shape[-1] < 3:
        try:
            image = to_rgb(image)
        except ImageError as error:
            raise ImageError(str(error).replace("image", name, 1)) from None
    image = image.float()
    if not bool(torch.isfinite(image).all()):
        bad = int((~torch.isfinite(image).flatten(1).all(dim=1)).nonzero()[0, 0])
        raise ImageError(f"{name} must have finite values, got NaN or infinity in picture {bad + 1} of {len(image)}")
    return image


def mask_of(mask: object, name: str) -> torch.Tensor:
    """A MASK as (B, h, w) float32 on the CPU, without gradients.

    Args:
        mask: (h, w), (B, h, w), (B, 1, h, w) or (B, h, w, 1), of any dtype.
        name: name of the input, for messages.

    Raises:
        TrajectoryError: it is not a mask, or has values that are not finite.
    """
    if not isinstance(mask, torch.Tensor):
        raise TrajectoryError(f"{name} must be a mask, got {type(mask).__name__}")
    shape = tuple(mask.shape)
    mask = mask.detach().float().cpu()
    if mask.ndim == 2:
        mask = mask[None]
    elif mask.ndim == 4 and 1 in (shape[1], shape[3]):
        mask = mask[:, 0] if shape[1] == 1 else mask[..., 0]
    if mask.ndim != 3 or 0 in shape:
        raise TrajectoryError(f"{name} must have shape (B, h, w) or (h, w) and none of them 0, got {shape}")
    if not bool(torch.isfinite(mask).all()):
        raise TrajectoryError(f"{name} must have finite values, got NaN or infinity")
    return mask

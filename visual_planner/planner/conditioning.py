"""The in-context mathematics: tokens, their position ids, which of them condition, and the noise schedule.

Method (arXiv 2512.00532, on the base of PhotoDoodle): the condition grid's packed latent tokens follow the noise
tokens in one sequence, under the same position ids as the noise tokens (a clone: same row, same column, index 0);
the transformer's output for them is thrown away and they stay clean at every step. FLUX Kontext differs in one
thing: its reference has index 1.

Everything here is plain torch and serves training, the diffusers pipeline and ComfyUI alike.
"""

import math

import torch

from ..errors import ConditioningError, brief
from ..grid.layout import GridLayout, whole_number
from .families import FAMILIES, FLUX1, Family

CONDITION_TOKENS = ("full_grid", "first_cell", "first_cell_cached")
"""full_grid: the VAE encodes the whole condition grid, eight black cells included, and every token conditions.
first_cell: the VAE encodes the first cell alone, and its tokens take the ids of that cell in the grid; with a goal
picture the goal's cell follows, whose tokens take the ids of the last frame's cell.
first_cell_cached: the same tokens and ids, but they attend to one another only, without text, at timestep 0 and with a
pooled text vector of zeros; so their keys and values are the same at every step, and are computed once for a plan."""

POSITION_IDS = ("clone", "kontext", "fold")
"""clone: the ids of the tokens in the target grid; kontext: the same rows and columns at the index that the base knows
a reference picture by (1 in FLUX.1-Kontext, 10 in FLUX.2); fold: every cell has
the rows and columns of the first one, frame t of the grid stands at index t, and its condition at index -1 - t."""


def pack_latents(latents: torch.Tensor, family: Family = FLUX1) -> torch.Tensor:
    """Fold the patches of a latent into tokens.

    Args:
        latents: (B, C, h, w) with the family's channels and sides of whole patches (FLUX.1: 16 channels, even sides).
        family: family of the base model.

    Returns:
        (B, h/p * w/p, C * p * p), tokens in row-major order, values ordered (channel, row in patch, column in patch).

    Raises:
        ConditioningError: another shape.
    """
    shape, patch = tuple(latents.shape), family.patch
    if len(shape) != 4 or shape[1] != family.channels or shape[2] % patch or shape[3] % patch or 0 in shape:
        even = " with even h and w" if patch == 2 else ""
        raise ConditioningError(f"latents must have shape (B, {family.channels}, h, w){even}, got {shape}")
    batch, channels, height, width = shape
    patches = latents.reshape(batch, channels, height // patch, patch, width // patch, patch)
    return patches.permute(0, 2, 4, 1, 3, 5).reshape(batch, -1, family.token_channels)


def unpack_latents(tokens: torch.Tensor, height: int, width: int, family: Family = FLUX1) -> torch.Tensor:
    """Unfold tokens into a latent: the inverse of `pack_latents`.

    Args:
        tokens: (B, h/p * w/p, C * p * p).
        height: height of the latent [latent px].
        width: width of the latent [latent px].
        family: family of the base model.

    Returns:
        (B, C, height, width).

    Raises:
        ConditioningError: the number of tokens or channels does not fit that size.
    """
    shape, patch = tuple(tokens.shape), family.patch
    height, width = (_patches(side, name, patch) for side, name in ((height, "height"), (width, "width")))
    rows, cols = height // patch, width // patch
    if len(shape) != 3 or shape[1:] != (rows * cols, family.token_channels):
        raise ConditioningError(
            f"tokens must have shape (B, {rows * cols}, {family.token_channels}) for {height} x {width} latents, got "
            f"{shape}"
        )
    patches = tokens.reshape(shape[0], rows, cols, family.channels, patch, patch)
    return patches.permute(0, 3, 1, 4, 2, 5).reshape(shape[0], family.channels, height, width)


def image_ids(h_tokens: int, w_tokens: int, index: float = 0, family: Family = FLUX1) -> torch.Tensor:
    """Position ids (h_tokens * w_tokens, axes) float32 of a picture: (index, row, column), then zeros, row-major."""
    rows = whole_number(h_tokens, "token rows", error=ConditioningError)
    cols = whole_number(w_tokens, "token columns", error=ConditioningError)
    ids = torch.zeros(rows, cols, family.axes, dtype=torch.float32)
    ids[..., 0] = index
    ids[..., 1] = torch.arange(rows, dtype=torch.float32)[:, None]
    ids[..., 2] = torch.arange(cols, dtype=torch.float32)[None, :]
    return ids.reshape(-1, family.axes)


def text_ids(count: int, family: Family = FLUX1) -> torch.Tensor:
    """Position ids (count, axes) float32 of text tokens: zeros, except where the family counts them."""
    ids = torch.zeros(count, family.axes, dtype=torch.float32)
    if family.text_axis is not None:
        ids[:, family.text_axis] = torch.arange(count, dtype=torch.float32)
    return ids


def condition_token_index(
    layout: GridLayout, cell_tokens: tuple[int, int], condition_tokens: str = "full_grid", goal: bool = False
) -> torch.Tensor:
    """Places in the grid's token sequence that the condition's tokens stand for, in the order of its tokens.

    Args:
        layout: the grid.
        cell_tokens: (h, w) of one cell [tokens].
        condition_tokens: one of `CONDITION_TOKENS`.
        goal: whether the goal's cell stands beside the first one; it takes the place of the last frame. A full grid
            has that place anyway.

    Returns:
        (M,) int64. Select target ids (and, from a full grid's packed latent, tokens) with this one index.

    Raises:
        ConditioningError: unknown `condition_tokens`, or a cell without tokens.
    """
    _one_of(condition_tokens, CONDITION_TOKENS, "condition_tokens")
    height = whole_number(cell_tokens[0], "cell token rows", error=ConditioningError)
    width = whole_number(cell_tokens[1], "cell token columns", error=ConditioningError)
    rows, cols = layout.grid_size(height, width)
    places = torch.arange(rows * cols, dtype=torch.int64).reshape(rows, cols)
    if condition_tokens != "full_grid":
        boxes = [layout.cell_box(frame, height, width) for frame in (0, *([layout.frames - 1] if goal else []))]
        places = torch.cat([places[top:bottom, left:right] for top, left, bottom, right in boxes], dim=1)
    return places.reshape(-1)


def target_ids(
    ids: torch.Tensor, layout: GridLayout, cell_tokens: tuple[int, int], position_ids: str = "clone"
) -> torch.Tensor:
    """Position ids of the noise tokens.

    Args:
        ids: (N, axes) or (B, N, axes), row-major, as the model assigns them to a picture of the grid's size, with its
            rope scaling.
        layout: the grid.
        cell_tokens: (h, w) of one cell [tokens].
        position_ids: one of `POSITION_IDS`; all but "fold" leave the ids as they are.

    Returns:
        As `ids`, same shape, dtype and device.

    Raises:
        ConditioningError: the ids are not those of this grid, or `position_ids` is unknown.
    """
    _one_of(position_ids, POSITION_IDS, "position_ids")
    height = whole_number(cell_tokens[0], "cell token rows", error=ConditioningError)
    width = whole_number(cell_tokens[1], "cell token columns", error=ConditioningError)
    rows, cols = layout.grid_size(height, width)
    _require_ids(ids, "ids", rows * cols)
    if position_ids != "fold":
        return ids
    first, frames = torch.empty(rows, cols, dtype=torch.int64), torch.empty(rows, cols)
    places = torch.arange(rows * cols).reshape(rows, cols)
    for frame in range(layout.frames):
        top, left, bottom, right = layout.cell_box(frame, height, width)
        first[top:bottom, left:right] = places[:height, :width]
        frames[top:bottom, left:right] = frame
    folded = ids.index_select(-2, first.reshape(-1).to(ids.device))
    folded[..., 0] += frames.reshape(-1).to(folded)
    return folded


def _require_ids(ids: torch.Tensor, name: str, count: int | None = None) -> None:
    known = sorted({family.axes for family in FAMILIES.values()})
    if ids.ndim not in (2, 3) or ids.shape[-1] not in known:
        axes = " or ".join(map(str, known))
        raise ConditioningError(
            f"{name} must have shape (N, axes) or (B, N, axes) with {axes} axes, got {tuple(ids.shape)}"
        )
    if count is not None and ids.shape[-2] != count:
        raise ConditioningError(f"{name} must be of the grid's {count} tokens, got {ids.shape[-2]}")


def condition_ids(
    target_ids: torch.Tensor, index: torch.Tensor, position_ids: str = "clone", family: Family = FLUX1
) -> torch.Tensor:
    """Position ids of the condition's tokens.

    Args:
        target_ids: (N, axes) or (B, N, axes), the ids of the noise tokens, from `target_ids`.
        index: (M,) from `condition_token_index`.
        position_ids: one of `POSITION_IDS`.
        family: family of the base model, for the index of a reference.

    Returns:
        (M, axes) or (B, M, axes), a new tensor of the same dtype on the same device.

    Raises:
        ConditioningError: shapes do not fit, an index lies outside, or `position_ids` is unknown.
    """
    _one_of(position_ids, POSITION_IDS, "position_ids")
    _require_ids(target_ids, "target_ids")
    count = target_ids.shape[-2]
    if index.ndim != 1 or (index.numel() and not 0 <= int(index.min()) <= int(index.max()) < count):
        raise ConditioningError(f"index must be one row of positions below {count}, the number of target tokens")
    ids = target_ids.index_select(-2, index.to(target_ids.device))
    if position_ids == "kontext":
        ids[..., 0] = family.reference_index
    elif position_ids == "fold":
        ids[..., 0] = -1 - ids[..., 0]
    return ids


def condition_token_count(
    layout: GridLayout, cell_tokens: tuple[int, int], condition_tokens: str, goal: bool = False
) -> int:
    """Number of condition tokens; arguments and errors as `condition_token_index`."""
    return int(condition_token_index(layout, cell_tokens, condition_tokens, goal).numel())


def schedule_mu(
    tokens: int, base_shift: float = 0.5, max_shift: float = 1.15, base_tokens: int = 256, max_tokens: int = 4096
) -> float:
    """Resolution-dependent shift of the noise schedule.

    A straight line from `base_shift` at `base_tokens` to `max_shift` at `max_tokens`, extrapolated beyond (the rule of
    FLUX.1's reference sampler). The released planner code counts noise AND condition tokens.
    """
    slope = (max_shift - base_shift) / (max_tokens - base_tokens)
    return base_shift + slope * (whole_number(tokens, "tokens", error=ConditioningError) - base_tokens)


def sigmas(steps: int, mu: float) -> torch.Tensor:
    """Noise levels (steps + 1,) float32 of a sampling run, from 1 down to 0.

    `s_i = e^mu / (e^mu + 1/u_i - 1)` with `u_i` evenly spaced from 1 to 1/steps, then 0: FLUX.1's shifted schedule.
    """
    steps = whole_number(steps, "steps", error=ConditioningError)
    if not math.isfinite(mu):
        raise ConditioningError(f"mu must be a finite number, got {mu}")
    even = torch.linspace(1.0, 1.0 / steps, steps, dtype=torch.float64)
    shifted = math.exp(mu) / (math.exp(mu) + (1.0 / even - 1.0))
    return torch.cat([shifted, torch.zeros(1, dtype=torch.float64)]).to(torch.float32)


def add_noise(clean: torch.Tensor, noise: torch.Tensor, sigma: torch.Tensor | float) -> torch.Tensor:
    """Noisy latent `x_t = (1 - sigma) x_0 + sigma e` of rectified flow; `sigma` broadcasts from (B,) over a batch."""
    level = _per_sample(sigma, clean)
    return (1.0 - level) * clean + level * noise


def velocity(clean: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """What the model predicts: `e - x_0`, the direction from the clean latent to the noise."""
    return noise - clean


def _per_sample(sigma: torch.Tensor | float, like: torch.Tensor) -> torch.Tensor:
    level = torch.as_tensor(sigma, dtype=like.dtype, device=like.device)
    if level.ndim > 1 or (level.ndim == 1 and level.shape[0] != like.shape[0]):
        raise ConditioningError(
            f"sigma must be one number or one per sample ({like.shape[0]}), got {tuple(level.shape)}"
        )
    return level.reshape(-1, *[1] * (like.ndim - 1)) if level.ndim else level


def _patches(value: int, name: str, patch: int) -> int:
    number = whole_number(value, f"latent {name}", error=ConditioningError)
    if number % patch:
        raise ConditioningError(f"latent {name} must be even, got {number}")
    return number


def _one_of(value: str, known: tuple[str, ...], name: str) -> None:
    if value not in known:
        raise ConditioningError(f"{name} must be one of {', '.join(known)}, got {brief(value)}")

"""Which cells of the grid attend to which while a plan is sampled, over layers and sampling steps."""

from pathlib import Path

import numpy as np
import torch
from pydantic import Field
from torch.overrides import TorchFunctionMode

from visual_planner.grid.layout import GridLayout
from visual_planner.planner.spec import PlannerSpec

from ...errors import TrainingError
from ...model.sampling import draw_noise
from ...sections.data import Positive
from ..charts import SERIES, figure
from ..closed_loop.requests import planner_input
from .base import Study, StudySettings, bench, markdown_table, method_lines

_CLEARLY = 1.1
"""An attention that is so many times as large as an even one is called clearly more."""


class AttentionSettings(StudySettings):
    """Settings of this study."""

    scenes: Positive = Field(8, description="plans over which the maps are averaged")


class AttentionMaps(TorchFunctionMode):
    """While active, sums how much the tokens of each frame attend to those of each group.

    Groups are the frames in time order, the condition, and the text. Only attention over the whole sequence of the
    transformer counts: that of text encoders and autoencoder has other lengths.

    Args:
        spec: layout and condition tokens.
        text_tokens: tokens of the prompt, which come first.
        condition_tokens: tokens of the condition, which come last.
    """

    def __init__(self, spec: PlannerSpec, text_tokens: int, condition_tokens: int) -> None:
        super().__init__()
        groups = token_frames(spec.layout, spec.cell_tokens)
        frames = spec.layout.frames
        self.queries = slice(text_tokens, text_tokens + len(groups))
        self.keys = torch.tensor([frames + 1] * text_tokens + groups.tolist() + [frames] * condition_tokens)
        self.rows = torch.nn.functional.one_hot(torch.tensor(groups), frames).float()
        self.columns = torch.nn.functional.one_hot(self.keys, frames + 2).float()
        self.maps: list[np.ndarray] = []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        """Intercept calls of attention."""
        kwargs = kwargs or {}
        if function is torch.nn.functional.scaled_dot_product_attention:
            query, key = (args[i] if len(args) > i else kwargs[name] for i, name in enumerate(("query", "key")))
            if key.shape[-2] == len(self.keys) and query.shape[-2] >= self.queries.stop:
                self.maps.append(self._map(query[..., self.queries, :].float(), key.float()))
        return function(*args, **kwargs)

    def _map(self, query: torch.Tensor, key: torch.Tensor) -> np.ndarray:
        """Mean attention (frames, frames + 2) over batch and heads; rows sum to 1."""
        shares = (query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5).softmax(dim=-1).mean(dim=(0, 1)).cpu()
        return (self.rows.T @ shares @ self.columns / self.rows.sum(dim=0)[:, None]).numpy()


def token_frames(layout: GridLayout, cell_tokens: tuple[int, int]) -> np.ndarray:
    """Frame of every token of a grid, tokens in rows (rows x cols of cells of `cell_tokens` (h, w) tokens)."""
    cells = np.array(layout.frame_indices).reshape(layout.rows, layout.cols)
    return np.repeat(np.repeat(cells, cell_tokens[0], axis=0), cell_tokens[1], axis=1).ravel()


def measure(settings: AttentionSettings, out: Path) -> dict:
    """Maps (steps, layers, frames, frames + 2), averaged over scenes, by mode.

    Raises:
        TrainingError: the transformer's attention could not be seen.
    """
    result: dict = {"modes": {}}
    with bench(settings) as b:
        spec = b.planner.spec
        for mode in settings.modes:
            inputs = [planner_input(asked, mode, spec) for asked in b.asked]
            text = b.planner.encoders([inputs[0][1]])[0].shape[1]
            noise = draw_noise(spec, [asked.seed for asked in b.asked], 1)
            with AttentionMaps(spec, text, spec.conditioning_tokens) as maps:
                b.planner.plan(np.stack([p for p, _ in inputs]), [w for _, w in inputs], noise=noise)
            if not maps.maps or len(maps.maps) % spec.steps:
                raise TrainingError(f"{len(maps.maps)} attention maps in {spec.steps} steps: cannot tell the layers")
            values = np.stack(maps.maps).reshape(spec.steps, -1, *maps.maps[0].shape)
            result["modes"][mode] = summary(values, spec.layout)
            result["even"] = even_shares(maps.columns.sum(dim=0).numpy(), spec.layout)
    return {**result, "order": spec.order, "position_ids": spec.position_ids, "steps": spec.steps}


def shares_of(maps: np.ndarray, layout: GridLayout) -> dict[str, np.ndarray]:
    """Where a frame's attention goes, averaged over the frames: arrays (...) from maps (..., frames, frames + 2)."""
    frames = layout.frames
    time = np.abs(np.subtract.outer(range(frames), range(frames))) == 1
    cells = np.array([layout.cell_of(frame) for frame in range(frames)])
    touching = np.abs(cells[:, None] - cells[None]).sum(axis=-1) == 1
    to = {
        "own frame": np.eye(frames, dtype=bool),
        "neighbours in time": time,
        "neighbours in the grid only": touching & ~time,
        "other frames": ~(np.eye(frames, dtype=bool) | time | touching),
    }
    shares = {name: (maps[..., :frames] * mask).sum(-1).mean(-1) for name, mask in to.items()}
    return shares | {"condition": maps[..., frames].mean(-1), "text": maps[..., frames + 1].mean(-1)}


def even_shares(tokens: np.ndarray, layout: GridLayout) -> dict[str, float]:
    """The fractions under uniform attention, from the number of each group's tokens (frames + 2)."""
    even = np.tile(tokens / tokens.sum(), (layout.frames, 1))
    return {name: round(float(share), 5) for name, share in shares_of(even, layout).items()}


def summary(maps: np.ndarray, layout: GridLayout) -> dict:
    """The mean map, and where attention goes over layers and steps.

    Args:
        maps: (steps, layers, frames, frames + 2).
        layout: layout of the grid.
    """
    shares = shares_of(maps, layout)
    return {
        "mean_map": maps.mean(axis=(0, 1)).round(5).tolist(),
        "by_layer": {name: value.mean(axis=0).round(5).tolist() for name, value in shares.items()},
        "by_step": {name: value.mean(axis=1).round(5).tolist() for name, value in shares.items()},
    }


def plot(result: dict):
    """The mean map, and where attention goes in each layer."""
    made, (left, right) = figure(10.0, 4.0, 2)
    mode, row = next(iter(result["modes"].items()))
    values = np.array(row["mean_map"])
    left.imshow(values, cmap="viridis", vmin=0)
    frames = len(values)
    names = [*map(str, range(1, frames + 1)), "first\nframe", "text"]
    left.set_xticks(range(frames + 2), names, fontsize=8)
    left.set_yticks(range(frames), names[:frames], fontsize=8)
    left.set(xlabel="looked at", ylabel="querying frame", title=f"mean attention, mode {mode}")
    colours = [SERIES["text"], SERIES["both"], SERIES["trajectory"], "#9aa0a6", "#6d597a", "#d1495b"]
    for (name, shares), colour in zip(row["by_layer"].items(), colours, strict=True):
        right.plot(range(1, len(shares) + 1), shares, color=colour, label=name)
    right.set(xlabel="layer", ylabel="fraction of a frame's attention", ylim=(0, None), title="where attention goes")
    right.legend(frameon=False, fontsize=8)
    return made


def answer(result: dict) -> str:
    """What gets more and what less than its even fraction, in every mode."""
    shares = {
        name: [np.mean(mode["by_step"][name]) / even for mode in result["modes"].values()]
        for name, even in result["even"].items()
        if even
    }
    more = [f"{name} ({min(ratios):.1f} times)" for name, ratios in shares.items() if min(ratios) > _CLEARLY]
    less = [f"{name} ({max(ratios):.1f} times)" for name, ratios in shares.items() if max(ratios) < 1 / _CLEARLY]
    return (
        f"**Answer:** in every mode a frame attends clearly more than evenly to {', '.join(more) or 'nothing'}, and "
        f"clearly less to {', '.join(less) or 'nothing'}; this describes these scenes, without intervals."
    )


def page(result: dict) -> str:
    """The study's page."""
    modes = list(result["modes"])
    rows = []
    for name, even in result["even"].items():
        steps = {mode: result["modes"][mode]["by_step"][name] for mode in modes}
        halves = [f"{np.mean(s[: len(s) // 2] or s):.0%} / {np.mean(s[len(s) // 2 :]):.0%}" for s in steps.values()]
        rows.append(
            [name, f"{even:.0%}", *(f"{np.mean(s):.0%} ({h})" for s, h in zip(steps.values(), halves, strict=True))]
        )
    return f"""# Attention between cells

{answer(result)}

![Attention maps](PLOT)

Order `{result["order"]}`, ids `{result["position_ids"]}`; where the attention of a frame's tokens goes, mean over
heads and layers; in brackets, the first and the second half of the sampling steps. *Even*: the fraction under uniform
attention.

{markdown_table(["from a frame to", "even", *modes], rows)}

## Method
{method_lines(result["settings"])} Attention weights of every layer and step are summed over the tokens of each frame.

## Limits
Attention shows where a layer looks, not what it uses. To compare orders or ids, run this study for each of their
planners.
"""


STUDY = Study(AttentionSettings, measure, plot, page)

"""The part of a graph that replaces Extend Plan: the nodes of an ordinary plan, once for each request, and joints."""

from dataclasses import asdict, dataclass, replace
from typing import Any

from ...visual_planner.errors import ChainError
from ...visual_planner.planner.chaining import PlanRequest, frames_shown
from ...visual_planner.planner.spec import PlannerSpec

MAX_SEED = 0xFFFFFFFFFFFFFFFF

Link = list[Any]
"""Output of a node in a running graph: [node id, number of the output]."""


@dataclass(frozen=True)
class Sampling:
    """Settings of KSampler; `seed` is the first plan's."""

    seed: int
    steps: int
    cfg: float
    sampler_name: str
    scheduler: str


@dataclass(frozen=True)
class Joining:
    """Settings of Join Plans."""

    overlap: int
    join: str
    fps: float


def links_of(hidden) -> dict[str, Link]:
    """Inputs of the running node that come from other nodes.

    With these links instead of values, ComfyUI's cache can identify the new nodes by what they depend on.

    Raises:
        ChainError: an input is a list, for each item of which ComfyUI runs the node again: a link would mean all items.
    """
    from comfy_execution.graph_utils import is_link
    from comfy_execution.utils import get_executing_context

    if get_executing_context().list_index:
        raise ChainError(
            "Extend Plan must get a single value for each input, got a list: rebatch it, or queue one run for each"
        )
    inputs = hidden.dynprompt.get_node(hidden.unique_id)["inputs"]
    return {name: value for name, value in inputs.items() if is_link(value)}


def placed(
    requests: tuple[PlanRequest, ...], size: tuple[int, int], spec: PlannerSpec, fit: str
) -> tuple[PlanRequest, ...]:
    """Bring each request's path into the pixels of the frame that its plan starts from.

    Args:
        requests: requests with paths on the first frame.
        size: (h, w) of the first frame [px], from which the first plan starts; the others start from cells.
        spec: the planner's spec, for the cell's size.
        fit: how the first frame is brought to that size.
    """
    result = []
    for number, request in enumerate(requests):
        path = request.trajectory and request.trajectory.scaled(size[1], size[0])
        if path and number:
            path = path.fitted(spec.cell_height, spec.cell_width, fit)
        result.append(replace(request, trajectory=path))
    return tuple(result)


class Chain:
    """Makes the nodes of consecutive plans.

    Attributes:
        graph: ComfyUI's builder, with the nodes that `build` has made.
    """

    def __init__(self, links: dict[str, Link], sampling: Sampling, joining: Joining, fit: str) -> None:
        """Begin an empty graph.

        Args:
            links: where Extend Plan's inputs come from.
            sampling: settings of all samplers.
            joining: settings of all joints.
            fit: how the first frame is brought to a cell's size.
        """
        from comfy_execution.graph_utils import GraphBuilder

        self.graph = GraphBuilder()
        self._links = links
        self._sampling = sampling
        self._joining = joining
        self._fit = fit

    def titles(self, requests: tuple[PlanRequest, ...], length: int) -> list[str]:
        """One line per plan of `length` frames: which frames of the whole are its own, and its request."""
        lines, overlap, join = [], self._joining.overlap, self._joining.join
        for number, request in enumerate(requests):
            first, last = frames_shown(number, len(requests), length, overlap, join)
            settings = f"frames {first} to {last}, {request.mode}, seed {self._seed(number)}"
            said = f": {request.instruction}" if request.instruction else ""
            lines.append(f"plan {number + 1} of {len(requests)}, {settings}{said}")
        return lines

    def build(self, requests: tuple[PlanRequest, ...], titles: list[str], length: int) -> tuple[Link, Link, Link]:
        """Make the nodes of all plans of `length` frames; returns the outputs with frames, video and report."""
        frames, video, check = self._plan(requests[0], self._links["first_frame"], self._seed(0))
        plan, report = frames, self._text(titles[0], check)
        for number, request in enumerate(requests[1:], start=1):
            first = self._node("ImageFromBatch", image=plan, batch_index=length - self._joining.overlap, length=1)
            plan, _, check = self._plan(request, first.out(0), self._seed(number))
            report = self._text(report, self._text(titles[number], check), "\n\n")
            joint = self._node("VisualPlannerJoin", before=frames, after=plan, notes=report, **asdict(self._joining))
            frames, video = joint.out(0), joint.out(1)
        return frames, video, report

    def _plan(self, request: PlanRequest, first: Link, seed: int) -> tuple[Link, Link, Link]:
        """Make the nodes of one plan; returns the outputs with its frames, its video and its checks."""
        spec, fit = self._links["spec"], {"fit": self._fit}
        drawn, asked = first, {}
        if request.trajectory is not None:
            text = request.trajectory.to_json()
            path = self._node("VisualPlannerTrajectory", trajectory_json=text, outside="cut")
            overlay = self._node(
                "VisualPlannerTrajectoryOverlay", first_frame=first, trajectory=path.out(0), spec=spec, **fit
            )
            drawn, asked = overlay.out(0), {"trajectory": overlay.out(1)}
        grid = self._grid(request, drawn, seed)
        sliced = self._node("VisualPlannerSliceGrid", grid=grid, layout=spec, fps=self._joining.fps)
        check = self._node("VisualPlannerCheck", frames=sliced.out(0), first_frame=first, spec=spec, **fit, **asked)
        return sliced.out(0), sliced.out(1), check.out(0)

    def _grid(self, request: PlanRequest, first: Link, seed: int) -> Link:
        """Make the nodes from a first frame, with its path drawn on it, to a grid."""
        links = {name: self._links[name] for name in ("model", "vae", "spec", "negative") if name in self._links}
        prompt = self._node(
            "VisualPlannerPrompt", mode=request.mode, instruction=request.instruction, spec=links["spec"]
        )
        positive = self._node("CLIPTextEncode", clip=self._links["clip"], text=prompt.out(0))
        model, positive, negative, latent = map(
            self._node(
                "VisualPlannerCondition", positive=positive.out(0), first_frame=first, fit=self._fit, **links
            ).out,
            range(4),
        )
        sampled = self._node(
            "KSampler",
            model=model,
            positive=positive,
            negative=negative,
            latent_image=latent,
            denoise=1.0,
            **asdict(replace(self._sampling, seed=seed)),
        )
        return self._node("VAEDecode", samples=sampled.out(0), vae=links["vae"]).out(0)

    def _node(self, node_type: str, **inputs: Any):
        return self.graph.node(node_type, **inputs)

    def _text(self, first: str | Link, second: Link, between: str = "\n") -> Link:
        return self._node("StringConcatenate", string_a=first, string_b=second, delimiter=between).out(0)

    def _seed(self, number: int) -> int:
        return (self._sampling.seed + number) & MAX_SEED

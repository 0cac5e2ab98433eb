"""Extend Plan and Join Plans: in a real server, with the planner that comes with the plugin."""

from __future__ import annotations

import io
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from launcher.client import ComfyClient, PromptCancelled, PromptError
from visual_planner.grid.frame import fit_transform
from visual_planner.planner.chaining import cut_in_time
from visual_planner.trajectory.path import DrawnPath
from visual_planner.trajectory.trajectory import Trajectory

pytestmark = pytest.mark.comfyui
FRAME = "extend_first_frame.png"
HEIGHT, WIDTH, CELL, LENGTH = 60, 100, 64, 9
STEPS, SEED = 2, 7
EXTEND = "10"
SETTINGS = {"seed": SEED, "steps": STEPS, "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple", "fps": 4.0}
SETTINGS |= {"overlap": 1, "join": "drop", "fit": "letterbox", "paths": "auto", "plans": 0}
PATH = Trajectory(WIDTH, HEIGHT, (DrawnPath.from_array([(20, 10), (80, 30), (40, 50)]),))
WORDS = ("pick up the red cube", "put the red cube onto the plate")


def node(class_type: str, **inputs) -> dict:
    return {"class_type": class_type, "inputs": inputs}


def planner_nodes() -> dict:
    lora = {"lora_name": "tiny_planner (built in)", "strength": 1.0, "base_lora_name": "none", "base_strength": 1.0}
    return {
        "1": node("VisualPlannerTinyLoader"),
        "2": node("VisualPlannerLoraLoader", model=["1", 0], preset="from the file", **lora),
        "3": node("LoadImage", image=FRAME),
        "4": node("VisualPlannerTrajectory", trajectory_json=PATH.to_json(), outside="error"),
    }


def chain_prompt(instructions=WORDS, drawn=False, **settings) -> dict:
    inputs = {"model": ["2", 0], "clip": ["1", 1], "vae": ["1", 2], "spec": ["2", 1], "first_frame": ["3", 0]}
    inputs |= {"instructions": "\n".join(instructions)} | SETTINGS | settings
    if drawn:
        inputs["trajectory"] = ["4", 0]
    return planner_nodes() | {
        EXTEND: node("VisualPlannerExtend", **inputs),
        "11": node("SaveImage", images=[EXTEND, 0], filename_prefix="chain"),
        "12": node("PreviewAny", source=[EXTEND, 2]),
    }


def plan_nodes(start: int, first: list, instruction: str, seed: int, path: str = "") -> dict:
    """A plan wired by hand; the last node is Slice Grid."""
    names = ["path", "overlay", "prompt", "text", "condition", "sampler", "decode", "slice"]
    ids = {name: str(start + place) for place, name in enumerate(names)}
    to = {name: [number, 0] for name, number in ids.items()}
    nodes = {}
    if path:
        nodes[ids["path"]] = node("VisualPlannerTrajectory", trajectory_json=path, outside="error")
        style = {"style": "from the spec", "color_by": "from the spec", "thickness": 0.0, "fit": "letterbox"}
        nodes[ids["overlay"]] = node(
            "VisualPlannerTrajectoryOverlay", first_frame=first, trajectory=to["path"], spec=["2", 1], **style
        )
        first = to["overlay"]
    mode = {"mode": "both" if path else "text", "instruction": instruction, "template": ""}
    nodes[ids["prompt"]] = node("VisualPlannerPrompt", spec=["2", 1], **mode)
    nodes[ids["text"]] = node("CLIPTextEncode", clip=["1", 1], text=to["prompt"])
    condition = {"model": ["2", 0], "positive": to["text"], "vae": ["1", 2], "spec": ["2", 1], "first_frame": first}
    nodes[ids["condition"]] = node("VisualPlannerCondition", plans=1, fit="letterbox", **condition)
    links = ("model", "positive", "negative", "latent_image")
    sampler = {name: [ids["condition"], place] for place, name in enumerate(links)} | {"seed": seed, "steps": STEPS}
    sampler |= {"cfg": 1.0, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0}
    nodes[ids["sampler"]] = node("KSampler", **sampler)
    nodes[ids["decode"]] = node("VAEDecode", samples=to["sampler"], vae=["1", 2])
    nodes[ids["slice"]] = node("VisualPlannerSliceGrid", grid=to["decode"], layout=["2", 1], fps=4.0)
    return nodes


def chain_by_hand(overlap: int, paths: tuple[str, str] = ("", "")) -> dict:
    first, second = "27", "47"
    return (
        planner_nodes()
        | plan_nodes(20, ["3", 0], WORDS[0], SEED, paths[0])
        | {"30": node("ImageFromBatch", image=[first, 0], batch_index=LENGTH - overlap, length=1)}
        | plan_nodes(40, ["30", 0], WORDS[1], SEED + 1, paths[1])
        | {"11": node("SaveImage", images=[first, 0], filename_prefix="first")}
        | {"12": node("SaveImage", images=[second, 0], filename_prefix="second")}
    )


@pytest.fixture(scope="module")
def client(comfy_server) -> ComfyClient:
    client = ComfyClient(comfy_server.url, timeout=180)
    pixels = np.random.default_rng(5).integers(0, 256, (HEIGHT // 4, WIDTH // 4, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC).save(buffer, "PNG")
    client.upload_image(buffer.getvalue(), FRAME)
    return client


def saved(client: ComfyClient, run, node_id: str) -> np.ndarray:
    """Pictures that Save Image wrote, (F, h, w, 3)."""
    return np.stack([np.asarray(Image.open(io.BytesIO(client.download(file)))) for file in run.files(node_id)])


class Watch:
    """What a run did: how often a sampler ran, and on which nodes of the user's graph progress was shown."""

    def __init__(self) -> None:
        self.samplers: set[str] = set()
        self.shown_at: set[str] = set()

    def __call__(self, kind: str, data: dict) -> None:
        if kind == "progress_state":
            for name, state in data["nodes"].items():
                if state["max"] == STEPS and state["value"] > 0:
                    self.samplers.add(name)
                    self.shown_at.add(state["display_node_id"])


@pytest.mark.parametrize(("overlap", "drawn"), [(1, False), (3, True)])
def test_a_chain_is_what_one_would_wire_by_hand(client, overlap, drawn):
    """The very same frames, and ComfyUI's own sampler, whose progress is seen on the node."""
    watch = Watch()
    run = client.run(chain_prompt(drawn=drawn, overlap=overlap), on_event=watch)
    frames, text = saved(client, run, "11"), run.outputs["12"]["text"][0]
    assert len(watch.samplers) == 2 and watch.shown_at == {EXTEND}

    paths = ("", "")
    if drawn:
        last = 2 * LENGTH - overlap - 1
        late = cut_in_time(PATH, (LENGTH - overlap) / last, 1.0)
        transform = fit_transform((HEIGHT, WIDTH), (CELL, CELL), "letterbox")
        late = late.transformed(*transform, CELL, CELL)
        paths = cut_in_time(PATH, 0.0, (LENGTH - 1) / last).to_json(), late.to_json()
    by_hand = client.run(chain_by_hand(overlap, paths))
    first, second = saved(client, by_hand, "11"), saved(client, by_hand, "12")
    assert len(first) == len(second) == LENGTH
    wanted = np.concatenate([first[: LENGTH - overlap + 1], second[1:]])
    assert frames.shape == (2 * LENGTH - overlap, CELL, CELL, 3)
    assert np.array_equal(frames, wanted)

    lines = text.splitlines()
    mode = "both" if drawn else "text"
    middle = LENGTH - overlap + 1
    assert lines[0] == f"plan 1 of 2, frames 1 to {middle}, {mode}, seed {SEED}: {WORDS[0]}"
    assert f"plan 2 of 2, frames {middle + 1} to {len(frames)}, {mode}, seed {SEED + 1}: {WORDS[1]}" in lines
    for check in ("motion", "drift", *(["path"] if drawn else [])):
        assert sum(f" {check}: " in line for line in lines) == 2


def test_only_the_plans_that_changed_are_made_again(client):
    client.run(chain_prompt(seed=100))
    watch = Watch()
    client.run(chain_prompt((WORDS[0], "push the plate to the left"), seed=100), on_event=watch)
    assert len(watch.samplers) == 1
    watch = Watch()
    run = client.run(chain_prompt((WORDS[0], "push the plate to the left", WORDS[1]), seed=100), on_event=watch)
    assert len(watch.samplers) == 1
    assert len(saved(client, run, "11")) == 3 * LENGTH - 2
    watch = Watch()
    prompt = chain_prompt(("reach for the plate", WORDS[1]), seed=100)
    client.run(prompt, on_event=watch)
    assert len(watch.samplers) == 2, "a plan depends on those before it"
    watch = Watch()
    again = client.run(prompt, on_event=watch)
    assert not watch.samplers
    said = again.outputs[EXTEND]["text"][0].splitlines()
    assert said[0] == "plan 1 of 2, frames 1 to 9, text, seed 100: reach for the plate" and len(said) == 2


def test_a_chain_can_be_cancelled(client):
    steps = 5000

    def cancel(kind: str, data: dict) -> None:
        if kind == "progress_state" and any(state["max"] == steps for state in data["nodes"].values()):
            client.interrupt()

    with pytest.raises(PromptCancelled):
        client.run(chain_prompt(steps=steps, seed=3), on_event=cancel)


def test_one_plan_alone_and_steps_of_the_planner(client):
    asked: set[int] = set()

    def note(kind: str, data: dict) -> None:
        if kind == "progress_state":
            asked.update(state["max"] for state in data["nodes"].values())

    run = client.run(chain_prompt(WORDS[:1], steps=0, seed=4), on_event=note)
    assert len(saved(client, run, "11")) == LENGTH
    assert 8 in asked, "the steps of the tiny planner's record"
    assert run.outputs["12"]["text"][0].startswith(f"plan 1 of 1, frames 1 to 9, text, seed 4: {WORDS[0]}\n")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"instructions": ()}, "Extend: instructions must have at least one line"),
        ({"overlap": 9}, "Extend: overlap must be 1 to 8 for plans of 9 frames, got 9"),
        ({"plans": 3}, "Extend: instructions must have one line, or one for each of 3 plans, got 2"),
        ({"drawn": True, "paths": "a path for each plan"}, "Extend: trajectory must have a path for each of 2 plans"),
    ],
)
def test_errors_are_one_line_at_the_node(client, change, message):
    prompt = chain_prompt(**change)
    prompt[EXTEND]["_meta"] = {"title": "Extend"}
    with pytest.raises(PromptError, match=message) as refusal:
        client.run(prompt)
    assert "\n" not in str(refusal.value)


@pytest.fixture
def inputs(module) -> dict:
    """Inputs of Extend Plan, in this process."""
    spec = module("visual_planner.planner.spec").PlannerSpec(cell_height=32, cell_width=48)
    frame = torch.rand(1, 40, 60, 3)
    parts = {"model": None, "clip": None, "vae": None}
    return parts | {"spec": spec, "first_frame": frame, "instructions": "push the red cube"} | SETTINGS


def test_what_extend_refuses(comfy, module, inputs):
    trajectory = module("visual_planner.trajectory.parse").parse_trajectory(PATH.to_json())
    spec_of = module("visual_planner.planner.spec").PlannerSpec
    bad = {
        "first_frame must be one picture, got 2": {"first_frame": torch.rand(2, 40, 60, 3)},
        "trained for mode trajectory: it cannot take instructions alone": {"spec": spec_of(modes=("trajectory",))},
        "trained for mode text: it cannot take instructions with a path": {
            "spec": spec_of(modes=("text",)),
            "trajectory": trajectory,
        },
    }
    for message, change in bad.items():
        with pytest.raises(ValueError, match=message) as caught:
            comfy.call("VisualPlannerExtend", **inputs | change)
        assert "\n" not in str(caught.value)


def test_a_list_is_refused(comfy, module):
    """ComfyUI runs a node once for each item of a list, but the links stand for the whole list."""
    from comfy_execution.utils import CurrentNodeContext

    links_of = module("nodes.comfy.chain").links_of
    written = {"model": ["1", 0], "clip": ["1", 1], "seed": 3, "instructions": "a"}
    hidden = SimpleNamespace(dynprompt=SimpleNamespace(get_node=lambda _: {"inputs": written}), unique_id="10")
    with CurrentNodeContext("prompt", "10", 0):
        assert links_of(hidden) == {"model": ["1", 0], "clip": ["1", 1]}
    with (
        CurrentNodeContext("prompt", "10", 1),
        pytest.raises(ValueError, match="a single value for each input"),
    ):
        links_of(hidden)


def test_seeds_begin_again_at_zero(comfy, module):
    """KSampler takes no larger seed than 2 ** 64 - 1."""
    chain, chaining = module("nodes.comfy.chain"), module("visual_planner.planner.chaining")
    sampling = chain.Sampling(2**64 - 1, 2, 1.0, "euler", "simple")
    links = {name: ["1", place] for place, name in enumerate(("model", "clip", "vae", "spec", "first_frame"))}
    built = chain.Chain(links, sampling, chain.Joining(1, "drop", 4.0), "letterbox")
    requests = (chaining.PlanRequest("text", "push", None),) * 3
    built.build(requests, built.titles(requests, LENGTH), LENGTH)
    nodes = built.graph.finalize().values()
    seeds = [entry["inputs"]["seed"] for entry in nodes if entry["class_type"] == "KSampler"]
    assert seeds == [2**64 - 1, 0, 1]


def test_join_joins_and_refuses_frames_of_another_size(comfy):
    before, after = torch.rand(9, 8, 12, 3), torch.rand(9, 8, 12, 3)
    frames, video, report = comfy.call(
        "VisualPlannerJoin", before=before, after=after, overlap=2, join="drop", fps=4.0, notes="both are fine"
    )
    assert torch.equal(frames, torch.cat([before[:8], after[1:]]))
    assert video.get_dimensions() == (12, 8) and len(video.get_components().images) == 16
    assert report == "16 frames: 9 and 9, of which they share 2\n\nboth are fine"
    with pytest.raises(ValueError, match=r"frames of one size \(h x w x C\), got 8 x 12 x 3 and 8 x 16 x 3"):
        comfy.call("VisualPlannerJoin", before=before, after=torch.rand(9, 8, 16, 3), overlap=1, join="drop", fps=4.0)

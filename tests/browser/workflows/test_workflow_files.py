"""The workflow files as they lie in the repository, and what the server makes of them."""

from __future__ import annotations

import io
import json
import urllib.error
from collections import Counter
from pathlib import Path

import pytest
from browser.workflow_files import (
    ALL,
    FILES,
    FIRST_FRAME,
    FLUX,
    KLEIN,
    METAWORLD,
    NAMES,
    WAN,
    JsonObject,
    mode_of,
    read,
)
from PIL import Image

from launcher.client import ComfyClient, PromptError
from launcher.paths import EXAMPLES, ROOT, WORKFLOWS
from launcher.workflow import Workflow
from training.__main__ import main as training
from visual_planner.planner.presets import PRESETS

INSTRUCTION = "put the red cube onto the plate"
# What a machine without FLUX.1-dev cannot know: (node type, input) that names a file of weights.
WEIGHTS = {
    ("UNETLoader", "unet_name"),
    ("DualCLIPLoader", "clip_name1"),
    ("DualCLIPLoader", "clip_name2"),
    ("VAELoader", "vae_name"),
    ("VisualPlannerLoraLoader", "lora_name"),
    ("VisualPlannerLoraLoader", "base_lora_name"),
}
KLEIN_WEIGHTS = {
    ("UNETLoader", "unet_name"),
    ("CLIPLoader", "clip_name"),
    ("VAELoader", "vae_name"),
    ("VisualPlannerLoraLoader", "lora_name"),
}
WAN_WEIGHTS = {
    ("UNETLoader", "unet_name"),
    ("CLIPLoader", "clip_name"),
    ("VAELoader", "vae_name"),
    ("CLIPVisionLoader", "clip_name"),
}
DONE_AND_NOT_DONE = ((9_000_000, "reach"), (9_360_069, "push"))
"""Seeds and tasks of a plan that carries its request out, and of one that does not."""
LOADERS = {"UNETLoader", "DualCLIPLoader", "VAELoader", "VisualPlannerTinyLoader", "VisualPlannerLoraLoader"}


def only(prompt: JsonObject, node_type: str) -> JsonObject:
    found = [node["inputs"] for node in prompt.values() if node["class_type"] == node_type]
    assert len(found) == 1, f"{len(found)} nodes of type {node_type}"
    return found[0]


@pytest.fixture(scope="module")
def prompts(client: ComfyClient) -> dict[str, JsonObject]:
    """Name -> what the demo would send to the server."""
    info = client.object_info()
    return {name: Workflow.load(WORKFLOWS / f"{name}.json", info).to_prompt() for name in ALL}


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_whole(name: str) -> None:
    data = read(name)
    assert data["version"] == 0.4
    nodes = {node["id"]: node for node in data["nodes"]}
    # The editor counts on: the ids of nodes and links that were deleted again are missing.
    assert len(nodes) == len(data["nodes"]) and max(nodes) <= data["last_node_id"]
    links = {link[0] for link in data["links"]}
    assert len(links) == len(data["links"]) and max(links) <= data["last_link_id"]
    for link, origin, slot, target, place, kind in data["links"]:
        assert link in nodes[origin]["outputs"][slot]["links"]
        assert nodes[target]["inputs"][place]["link"] == link
        assert nodes[origin]["outputs"][slot]["type"] == kind
        taken = nodes[target]["inputs"][place]["type"].split(",")
        assert kind in taken or taken == ["*"]
    ends = sum(entry["link"] is not None for node in data["nodes"] for entry in node["inputs"])
    assert ends == len(data["links"]), "an input names a link that is not in the list"


@pytest.mark.parametrize("name", FILES)
def test_a_file_explains_itself(name: str) -> None:
    data = read(name)
    notes = [node for node in data["nodes"] if node["type"] == "MarkdownNote"]
    assert len(notes) == 1
    assert notes[0]["title"] == "Read me"
    assert len(notes[0]["widgets_values"][0]) > 400
    numbers = [group["title"].split()[0] for group in data["groups"]]
    assert numbers and numbers == [str(number) for number in range(1, len(numbers) + 1)]


@pytest.mark.parametrize("name", NAMES)
def test_the_example_is_asked_for(prompts: dict[str, JsonObject], name: str) -> None:
    prompt, mode = prompts[name], mode_of(name)
    assert only(prompt, "LoadImage")["image"] == FIRST_FRAME
    words = only(prompt, "VisualPlannerPrompt")
    assert (words["mode"], words["instruction"]) == (mode, INSTRUCTION)
    counts = Counter(node["class_type"] for node in prompt.values())
    assert counts["VisualPlannerTrajectory"] == counts["VisualPlannerTrajectoryOverlay"] == (mode != "text")
    if mode != "text":
        drawn = json.loads(only(prompt, "VisualPlannerTrajectory")["trajectory_json"])
        assert drawn == json.loads((EXAMPLES / "trajectory.json").read_text(encoding="utf-8"))
    sampler = only(prompt, "KSampler")
    asked = {key: sampler[key] for key in ("cfg", "sampler_name", "scheduler", "denoise")}
    assert asked == {"cfg": 1, "sampler_name": "euler", "scheduler": "simple", "denoise": 1}
    assert counts["SaveImage"] == 2
    assert counts["SaveVideo"] == counts["VisualPlannerCheck"] == 1


@pytest.mark.parametrize("name", FLUX)
def test_a_flux_workflow_names_the_planner_that_it_loads(prompts: dict[str, JsonObject], name: str) -> None:
    loader = only(prompts[name], "VisualPlannerLoraLoader")
    spec = PRESETS[loader["preset"]]
    assert spec.modes == (mode_of(name),)
    assert only(prompts[name], "KSampler")["steps"] == spec.steps
    note = next(node for node in read(name)["nodes"] if node["type"] == "MarkdownNote")["widgets_values"][0]
    files = [
        node["inputs"][entry]
        for node in prompts[name].values()
        for kind, entry in WEIGHTS
        if kind == node["class_type"]
    ]
    assert len(files) == len(WEIGHTS)
    assert [file for file in files if file not in note] == [], "the note must tell of every file that is needed"


@pytest.mark.parametrize("name", FLUX)
def test_a_flux_workflow_lacks_nothing_but_weights(client: ComfyClient, prompts: dict, name: str) -> None:
    problems = node_errors(client, prompts[name])
    found = {
        (prompts[name][node]["class_type"], error["extra_info"]["input_name"], error["type"])
        for node, problem in problems.items()
        for error in problem["errors"]
    }
    lacking = {(kind, entry, "value_not_in_list") for kind, entry in WEIGHTS}
    # Before a run, ComfyUI 0.3.75 compares the lists of stock nodes alone; later ones compare those of V3 nodes too.
    stock = {problem for problem in lacking if not problem[0].startswith("VisualPlanner")}
    assert stock <= found <= lacking


@pytest.mark.parametrize("name", KLEIN)
def test_a_klein_workflow_says_what_it_needs(client: ComfyClient, prompts: dict, name: str) -> None:
    """The distilled model's settings, the base's negative prompt, and every file with its place."""
    prompt = prompts[name]
    assert only(prompt, "KSampler")["steps"] == 4
    assert only(prompt, "CLIPLoader")["type"] == "flux2"
    assert only(prompt, "VisualPlannerLoraLoader")["preset"] == "from the file"
    negative = prompt[only(prompt, "VisualPlannerCondition")["negative"][0]]
    assert negative["inputs"]["text"] == ""
    data = read(name)
    note = next(node for node in data["nodes"] if node["type"] == "MarkdownNote")["widgets_values"][0]
    files = {only(prompt, kind)[entry] for kind, entry in KLEIN_WEIGHTS}
    assert len(files) == 4 and all(f"**{file}**" in note for file in files)
    linked = [model for node in data["nodes"] for model in node["properties"].get("models", ())]
    assert {model["name"] for model in linked} == files - {"klein_planner.safetensors"}
    for model in linked:
        assert model["url"].startswith("https://huggingface.co/") and model["url"].endswith(f"/{model['name']}")
        assert f"`models/{model['directory']}`: **{model['name']}**" in note
    found = {
        (prompt[node]["class_type"], error["extra_info"]["input_name"], error["type"])
        for node, problem in node_errors(client, prompt).items()
        for error in problem["errors"]
    }
    lacking = {(kind, entry, "value_not_in_list") for kind, entry in KLEIN_WEIGHTS}
    assert {problem for problem in lacking if not problem[0].startswith("VisualPlanner")} <= found <= lacking


def test_a_plan_of_two_instructions_runs(client: ComfyClient, prompts: dict[str, JsonObject]) -> None:
    """Seventeen frames, saved once and shown once, and a report of both plans."""
    prompt = prompts["tiny_extend"]
    only(prompt, "VisualPlannerExtend")["steps"] = 2
    run = client.run(prompt)
    outputs = {entry["_meta"]["title"]: run.outputs[node] for node, entry in prompt.items() if node in run.outputs}
    assert len(outputs["Save frames"]["images"]) == 17
    report = outputs["Report"]["text"][0]
    assert [line[:13] for line in report.splitlines() if line.startswith("plan")] == ["plan 1 of 2, ", "plan 2 of 2, "]


def test_frames_are_made_larger(client: ComfyClient, prompts: dict[str, JsonObject]) -> None:
    prompt = prompts["tiny_upscale"]
    assert not {"UpscaleModelLoader", "ImageUpscaleWithModel"} & {node["class_type"] for node in prompt.values()}
    only(prompt, "VisualPlannerExtend")["steps"] = 2
    run = client.run(prompt)
    node = next(node for node, entry in prompt.items() if entry["class_type"] == "SaveImage")
    sizes = [Image.open(io.BytesIO(client.download(file))).size for file in run.files(node)]
    assert sizes == [(512, 512)] * 9


@pytest.mark.parametrize(("seed", "task"), DONE_AND_NOT_DONE)
def test_an_executed_plans_verdict_is_the_command_lines(
    client: ComfyClient, prompts: dict[str, JsonObject], tmp_path: Path, seed: int, task: str
) -> None:
    steps = only(prompts["tiny_plan_and_execute"], "KSampler")["steps"]
    asked = ["--mode", "text", "--first-seed", str(seed), "--scenes", "1", "--tasks", task, "--replan", "4"]
    asked += ["--steps", str(steps)]  # the workflow's: the command alone takes fewer
    file = tmp_path / "closed_loop.json"
    assert training(["evaluate", "--closed-loop", *asked, "--no-baselines", "--json", str(file)]) == 0
    result = json.loads(file.read_text(encoding="utf-8"))
    once, anew = (result[group]["text"]["successes"] == 1 for group in ("once", "success"))
    assert once == ((seed, task) == DONE_AND_NOT_DONE[0])
    for name, wanted in (("tiny_plan_and_execute", [once]), ("tiny_replan", [once, anew])):
        prompt = json.loads(json.dumps(prompts[name]))
        only(prompt, "PrimitiveInt")["value"] = seed
        only(prompt, "VisualPlannerScene")["task"] = task
        run = client.run(prompt)
        nodes = sorted(int(node) for node in run.outputs if prompt[node]["class_type"] == "VisualPlannerExecute")
        reports = [run.outputs[str(node)]["text"][0] for node in nodes]
        assert [report.startswith("succeeded: ") for report in reports] == wanted, reports


def test_wan_lacks_nothing_but_weights(client: ComfyClient, prompts: dict[str, JsonObject]) -> None:
    prompt = prompts[WAN]
    found = {
        (prompt[node]["class_type"], error["extra_info"]["input_name"], error["type"])
        for node, problem in node_errors(client, prompt).items()
        for error in problem["errors"]
    }
    assert found == {(kind, entry, "value_not_in_list") for kind, entry in WAN_WEIGHTS}
    note = next(node for node in read(WAN)["nodes"] if node["type"] == "MarkdownNote")["widgets_values"][0]
    files = [only(prompt, kind)[entry] for kind, entry in WAN_WEIGHTS]
    assert [file for file in files if file not in note] == [], "the note must tell of every file that is needed"


def test_metaworld_lacks_nothing_but_weights(client: ComfyClient, prompts: dict[str, JsonObject]) -> None:
    """The server takes it; without the planner's weights a run says so in one line."""
    prompt = json.loads(json.dumps(prompts[METAWORLD]))
    assert node_errors(client, prompt) == {}
    scene = only(prompt, "VisualPlannerScene")
    assert (scene["world"], scene["camera"], scene["look"]) == ("metaworld", "corner", "plain")
    if (ROOT / "models" / only(prompt, "VisualPlannerTinyLoader")["planner"] / "transformer").is_dir():
        return
    with pytest.raises(
        PromptError, match=r"planner metaworld_planner needs its weights in .*metaworld_planner"
    ) as told:
        client.run(prompt)
    assert "\n" not in str(told.value)


def node_errors(client: ComfyClient, prompt: JsonObject) -> JsonObject:
    """What the server finds wrong; it takes a prompt of which a part can run, and refuses one of which none can."""
    try:
        return client.post("/prompt", {"prompt": prompt, "client_id": client.client_id})["node_errors"]
    except urllib.error.HTTPError as refusal:
        return json.loads(refusal.read())["node_errors"]


@pytest.mark.parametrize("name", FLUX)
def test_a_flux_workflow_is_wired_as_the_tiny_one_that_runs(prompts: dict[str, JsonObject], name: str) -> None:
    assert wiring(prompts[name]) == wiring(prompts[f"tiny_{mode_of(name)}"])


def wiring(prompt: JsonObject) -> set[tuple[str, str, str]]:
    """Links as (output, node, input); loaders count as the wire types that they give."""
    outputs = {"UNETLoader": ["MODEL"], "DualCLIPLoader": ["CLIP"], "VAELoader": ["VAE"]}
    outputs |= {"VisualPlannerTinyLoader": ["MODEL", "CLIP", "VAE"], "VisualPlannerLoraLoader": ["PLANNER", "SPEC"]}
    titles = {node: entry["_meta"]["title"] for node, entry in prompt.items()}
    links = set()
    for node, entry in prompt.items():
        for name, value in entry["inputs"].items():
            if isinstance(value, list):
                kind = prompt[value[0]]["class_type"]
                origin = outputs[kind][value[1]] if kind in LOADERS else f"{titles[value[0]]} {value[1]}"
                links.add((origin, titles[node], name))
    assert len(links) > 15
    return links


def test_a_missing_planner_lora_is_said_in_one_line(client: ComfyClient, prompts: dict[str, JsonObject]) -> None:
    prompt = json.loads(json.dumps(prompts["tiny_text"]))
    only(prompt, "VisualPlannerLoraLoader")["lora_name"] = "no_such_lora.safetensors"
    with pytest.raises(PromptError, match=r"Load Planner LoRA.*no_such_lora\.safetensors") as refusal:
        client.run(prompt)
    assert "\n" not in str(refusal.value)

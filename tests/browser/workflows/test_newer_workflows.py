"""Workflows with nodes that the oldest supported ComfyUI lacks: checked against these nodes as 0.33.0 has them, and
against the running ComfyUI's as far as it has them."""

from __future__ import annotations

import copy
import json
import urllib.error

import pytest
from browser.workflow_files import NEWER, WAN, JsonObject, read

from launcher.client import ComfyClient
from launcher.paths import WORKFLOWS
from launcher.workflow import Workflow
from support.prompts import RECORDED, prompt_faults, with_recorded

WEIGHTS = {
    "ltx_first_last_frame": {
        ("CheckpointLoaderSimple", "ckpt_name"),
        ("LTXVAudioVAELoader", "ckpt_name"),
        ("LTXAVTextEncoderLoader", "ckpt_name"),
        ("LTXAVTextEncoderLoader", "text_encoder"),
    },
    "minimax_first_last_frame": {
        ("UNETLoader", "unet_name"),
        ("CLIPLoader", "clip_name"),
        ("VAELoader", "vae_name"),
    },
    "tiny_interpolate": {("FrameInterpolationModelLoader", "model_name")},
}
BETWEEN = [name for name in NEWER if name.endswith("first_last_frame")]


@pytest.fixture(scope="module")
def info(client: ComfyClient) -> JsonObject:
    """The server's node types; from the record those that it lacks."""
    return client.object_info()


def prompt_of(name: str, info: JsonObject) -> JsonObject:
    return Workflow.load(WORKFLOWS / f"{name}.json", with_recorded(info)).to_prompt()


def without_picture(prompt: JsonObject) -> JsonObject:
    """The prompt with a first frame that nobody has, so that no part of it can run."""
    prompt = copy.deepcopy(prompt)
    for node in prompt.values():
        if node["class_type"] == "LoadImage":
            node["inputs"]["image"] = "nobody_has_this.png"
    return prompt


def refusal_of(client: ComfyClient, prompt: JsonObject) -> JsonObject:
    with pytest.raises(urllib.error.HTTPError) as refusal:
        client.post("/prompt", {"prompt": prompt, "client_id": client.client_id})
    return json.loads(refusal.value.read())


def lacking(prompt: JsonObject, info: JsonObject) -> set[str]:
    return {node["class_type"] for node in prompt.values()} - set(info)


@pytest.mark.parametrize("name", NEWER)
def test_it_lacks_nothing_but_weights(info: JsonObject, name: str) -> None:
    """By the nodes of 0.33.0, whatever the server has; `LoadImage` finds the example scene on the server alone."""
    recorded = json.loads(RECORDED.read_text(encoding="utf-8"))
    stock = info | {kind: entry for kind, entry in recorded.items() if kind != "LoadImage"}
    prompt = Workflow.load(WORKFLOWS / f"{name}.json", stock).to_prompt()
    assert lacking(prompt, recorded) == {kind for kind in lacking(prompt, {}) if kind.startswith("VisualPlanner")}
    assert prompt_faults(prompt, stock) == {(kind, entry, "value_not_in_list") for kind, entry in WEIGHTS[name]}


@pytest.mark.parametrize("name", NEWER)
def test_the_server_finds_what_the_check_finds(client: ComfyClient, info: JsonObject, name: str) -> None:
    """With all nodes it names the files that it lacks; without, a node that it lacks."""
    prompt = without_picture(prompt_of(name, info))
    answer = refusal_of(client, prompt)
    if unknown := lacking(prompt, info):
        assert any(kind in answer["error"]["message"] for kind in unknown), answer["error"]
        return
    found = {
        (prompt[node]["class_type"], error["extra_info"]["input_name"], error["type"])
        for node, problem in answer["node_errors"].items()
        for error in problem["errors"]
    }
    assert {fault for fault in found if fault[0] != "LoadImage"} == {
        (kind, entry, "value_not_in_list") for kind, entry in WEIGHTS[name]
    }


@pytest.mark.parametrize("name", NEWER)
def test_the_note_names_files_licence_and_memory(info: JsonObject, name: str) -> None:
    data = read(name)
    note = next(node for node in data["nodes"] if node["type"] == "MarkdownNote")["widgets_values"][0]
    models = [model for node in data["nodes"] for model in node["properties"].get("models", ())]
    assert (
        models
        and [model for model in models if f"`models/{model['directory']}`: **{model['name']}**" not in note] == []
    )
    assert "Licence: " in note and NEWER[name] in note
    if name in BETWEEN:
        assert "Memory: " in note


@pytest.mark.parametrize("name", BETWEEN)
def test_two_frames_of_the_plan_reach_the_video_model(info: JsonObject, name: str) -> None:
    """As large as the video, the first as its first frame and the later one as its last."""
    prompt = prompt_of(name, info)
    nodes = {node["_meta"]["title"]: (number, node["inputs"]) for number, node in prompt.items()}
    sized = nodes["Size of the video"]
    size = sized[1]["width"], sized[1]["height"]
    kinds = ("EmptyLTXVLatentVideo", "MiniMaxH3ImageToVideo")
    [video] = [node["inputs"] for node in prompt.values() if node["class_type"] in kinds]
    assert (video["width"], video["height"]) == size and size[0] % 32 == size[1] % 32 == 0
    start, end = (nodes[title] for title in ("Start frame", "End frame"))
    assert start[1]["image"] == end[1]["image"] == [sized[0], 0]
    assert start[1]["batch_index"] < end[1]["batch_index"] <= 8
    if name.startswith("ltx"):
        guides = [nodes[f"Guide: {which} frame"][1] for which in ("start", "end")]
        prepared = [prompt[guide["image"][0]]["inputs"]["image"] for guide in guides]
        assert prepared == [[start[0], 0], [end[0], 0]] and [guide["frame_idx"] for guide in guides] == [0, -1]
        assert video["length"] % 8 == 1
    else:
        assert (video["first_frame"], video["last_frame"]) == ([start[0], 0], [end[0], 0])
        assert video["length"] % 17 == 5


BROKEN = {
    "required_input_missing": lambda inputs: inputs.pop("image"),
    "value_bigger_than_max": lambda inputs: inputs.update(batch_index=99999),
    "value_smaller_than_min": lambda inputs: inputs.update(length=0),
    "return_type_mismatch": lambda inputs: inputs.update(image=["2", 0]),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_the_check_finds_what_the_server_finds(client: ComfyClient, info: JsonObject, fault: str) -> None:
    prompt = copy.deepcopy(prompt_of(WAN, info))
    node = next(number for number, node in prompt.items() if node["_meta"]["title"] == "Start frame")
    BROKEN[fault](prompt[node]["inputs"])
    found = {entry for entry in prompt_faults(prompt, info) if entry[0] == "ImageFromBatch"}
    assert [kind for _, _, kind in found] == [fault]
    errors = refusal_of(client, without_picture(prompt))["node_errors"][node]["errors"]
    assert [(error["extra_info"]["input_name"], error["type"]) for error in errors] == [entry[1:] for entry in found]

"""The subgraph blueprint that the plugin brings: the server offers it, and what is in it fits the nodes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from launcher.client import ComfyClient
from launcher.paths import EXAMPLES, PLUGIN_NAME, ROOT

pytestmark = pytest.mark.comfyui
FILE = ROOT / "subgraphs" / "Visual planner.json"
INPUT, OUTPUT = -10, -20
FRAME = "blueprint_first_frame.png"


@pytest.fixture(scope="module")
def blueprint() -> dict[str, Any]:
    return json.loads(FILE.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def subgraph(blueprint) -> dict[str, Any]:
    (definition,) = blueprint["definitions"]["subgraphs"]
    return definition


def test_the_server_offers_it(comfy_client: ComfyClient):
    ours = {
        number: entry
        for number, entry in comfy_client.get("/global_subgraphs").items()
        if entry["info"]["node_pack"] == f"custom_nodes.{PLUGIN_NAME}"
    }
    assert [entry["name"] for entry in ours.values()] == ["Visual planner"]
    (number,) = ours
    assert comfy_client.get(f"/global_subgraphs/{number}")["data"] == FILE.read_text(encoding="utf-8")


def test_the_file_is_read_in_any_locale():
    """ComfyUI opens it with the encoding of the user's system."""
    assert FILE.read_bytes().isascii()


def test_it_is_one_node_with_these_inputs_and_outputs(blueprint, subgraph):
    """The editor takes a blueprint whose only node is the subgraph, and names it after the file."""
    (node,) = blueprint["nodes"]
    assert blueprint["version"] == 0.4 and not blueprint["links"]
    assert node["type"] == subgraph["id"] and node["title"] == subgraph["name"] == FILE.stem
    assert blueprint["extra"]["BlueprintDescription"].endswith(".")
    for side, wanted in (
        ("inputs", ["first_frame IMAGE", "trajectory VISUAL_PLANNER_TRAJECTORY", "instruction STRING", "seed INT"]),
        ("outputs", ["frames IMAGE", "video VIDEO", "check STRING"]),
    ):
        for owner in (node, subgraph):
            assert [f"{entry['name']} {entry['type']}" for entry in owner[side]] == wanted


def test_its_links_are_whole(subgraph):
    nodes = {node["id"]: node for node in subgraph["nodes"]}
    assert len(subgraph["links"]) == subgraph["state"]["lastLinkId"] == 12
    for link in subgraph["links"]:
        number, kind = link["id"], link["type"]
        if link["origin_id"] == INPUT:
            origin = subgraph["inputs"][link["origin_slot"]]
            assert number in origin["linkIds"]
        else:
            origin = nodes[link["origin_id"]]["outputs"][link["origin_slot"]]
            assert number in origin["links"]
        if link["target_id"] == OUTPUT:
            target = subgraph["outputs"][link["target_slot"]]
            assert number in target["linkIds"]
        else:
            target = nodes[link["target_id"]]["inputs"][link["target_slot"]]
            assert target["link"] == number
        assert origin["type"] == target["type"] == kind


def widgets_of(info: dict[str, Any]) -> list[str]:
    """Names of a node type's widgets in their order, with the value that follows a seed."""
    names = []
    for group in ("required", "optional"):
        for name, (kind, *settings) in info["input"].get(group, {}).items():
            if kind in ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO") or isinstance(kind, list):
                names.append(name)
                if settings and settings[0].get("control_after_generate"):
                    names.append("control_after_generate")
    return names


def test_its_nodes_are_the_servers(subgraph, object_info):
    assert [node["type"] for node in subgraph["nodes"]] == [
        "VisualPlannerTinyLoader",
        "VisualPlannerLoraLoader",
        "VisualPlannerExtend",
    ]
    for node in subgraph["nodes"]:
        info = object_info[node["type"]]
        order = [name for group in ("required", "optional") for name in info["input"].get(group, {})]
        assert sorted(entry["name"] for entry in node["inputs"]) == sorted(order)
        assert [output["name"] for output in node["outputs"]] == info["output_name"]
        assert len(node["widgets_values"]) == len(widgets_of(info))


def test_it_runs_as_its_nodes_do(comfy_client: ComfyClient, subgraph, object_info):
    """The nodes inside, with a picture at the subgraph's input, give the nine frames of a plan and what was found."""
    comfy_client.upload_image((EXAMPLES / "first_frame.png").read_bytes(), FRAME)
    prompt: dict[str, Any] = {"frame": {"class_type": "LoadImage", "inputs": {"image": FRAME}}}
    links = {link["id"]: link for link in subgraph["links"]}
    for node in subgraph["nodes"]:
        names = widgets_of(object_info[node["type"]])
        inputs = dict(zip(names, node["widgets_values"], strict=True))
        inputs.pop("control_after_generate", None)
        for entry in node["inputs"]:
            link = links.get(entry["link"])
            if link is None or (link["origin_id"] == INPUT and entry.get("widget")):
                continue
            if link["origin_id"] != INPUT:
                inputs[entry["name"]] = [str(link["origin_id"]), link["origin_slot"]]
            elif entry["type"] == "IMAGE":
                inputs[entry["name"]] = ["frame", 0]
        prompt[str(node["id"])] = {"class_type": node["type"], "inputs": inputs}
    ends = {
        subgraph["outputs"][link["target_slot"]]["name"]: link for link in links.values() if link["target_id"] < -10
    }
    for name, node_type, entry in (("frames", "SaveImage", "images"), ("check", "PreviewAny", "source")):
        origin = [str(ends[name]["origin_id"]), ends[name]["origin_slot"]]
        prompt[name] = {"class_type": node_type, "inputs": {entry: origin}}
    prompt["frames"]["inputs"]["filename_prefix"] = "blueprint"
    run = comfy_client.run(prompt)
    assert len(run.files("frames")) == 9
    assert run.outputs["check"]["text"][0].startswith("plan 1 of 1, frames 1 to 9, text, seed 1: put the red cube")

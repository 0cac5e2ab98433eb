"""Conversion of workflow files to prompts. The node types are those of the real server's /object_info, cut to a few."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from launcher.workflow import Workflow, WorkflowError
from support.graphs import GraphBuilder, picture_graph

IMAGE_OUT = (("IMAGE", "IMAGE"),)


def spec(required: dict, optional: dict | None = None, **more) -> dict:
    """One entry of /object_info."""
    order = {"required": list(required), "optional": list(optional or {})}
    return {"input": {"required": required, "optional": optional or {}}, "input_order": order, **more}


INFO = {
    "EmptyImage": spec({name: ["INT", {}] for name in ("width", "height", "batch_size", "color")}),
    "SaveImage": spec({"images": ["IMAGE"], "filename_prefix": ["STRING", {}]}, display_name="Save Image"),
    "ImageScale": spec(
        {"image": ["IMAGE"], "upscale_method": [["nearest", "area"]], "width": ["INT", {}], "height": ["INT", {}]}
    ),
    "ImageBlend": spec({"image1": ["IMAGE"], "image2": ["IMAGE"], "blend_factor": ["FLOAT", {}]}),
    "LoadImage": spec({"image": [["a.png"], {"image_upload": True}]}),
    "LoadWithOption": spec({"image": ["COMBO", {"image_upload": True}]}, {"scale": ["FLOAT", {}]}),
    "KSampler": spec(
        {
            "model": ["MODEL"],
            "seed": ["INT", {"control_after_generate": True}],
            "steps": ["INT", {}],
            "cfg": ["FLOAT", {}],
            "sampler_name": [["euler"]],
        }
    ),
    "TextBox": spec({"text": ["STRING", {"multiline": True}], "lines": ["STRING", {"forceInput": True}]}),
    "Multi": spec({"amount": ["INT,FLOAT", {"widgetType": "FLOAT"}], "wire": ["PLAN", {}]}, {"note": ["STRING", {}]}),
}


ENCODING = {"required": {"crf": ["FLOAT", {"default": 23.0}]}}
CODEC = [
    {"key": "auto", "inputs": {"required": {}}},
    {"key": "h264", "inputs": {"required": {}, "optional": ENCODING["required"]}},
]
NESTED = {"required": {"codec": ["COMFY_DYNAMICCOMBO_V3", {"options": CODEC}]}}
FORMATS = [{"key": "auto", "inputs": {"required": {}}}, {"key": "mp4", "inputs": NESTED}]
# As ComfyUI 0.33 has it; in 0.3.75 format and codec are two plain choices.
INFO["SaveVideo"] = spec(
    {
        "video": ["VIDEO"],
        "filename_prefix": ["STRING", {"default": "video/ComfyUI"}],
        "format": ["COMFY_DYNAMICCOMBO_V3", {"options": FORMATS}],
    },
    {"after": ["BOOLEAN", {"default": True}]},
)


def prompt_of(graph: GraphBuilder) -> dict:
    return Workflow(graph.data, INFO).to_prompt()


def test_widgets_links_and_titles() -> None:
    assert prompt_of(picture_graph(count=2, color=7)) == {
        "1": {
            "class_type": "EmptyImage",
            "inputs": {"width": 64, "height": 48, "batch_size": 2, "color": 7},
            "_meta": {"title": "EmptyImage"},
        },
        "2": {
            "class_type": "SaveImage",
            "inputs": {"images": ["1", 0], "filename_prefix": "plain"},
            "_meta": {"title": "Keep these"},
        },
    }


@pytest.mark.parametrize("control", ["fixed", "randomize", "increment", "decrement"])
def test_the_value_behind_a_seed_is_skipped(control: str) -> None:
    graph = GraphBuilder()
    graph.add("KSampler", inputs=(("model", "MODEL"),), widgets=(42, control, 10, 1.0, "euler"))
    assert prompt_of(graph)["1"]["inputs"] == {"seed": 42, "steps": 10, "cfg": 1.0, "sampler_name": "euler"}


def test_a_seed_saved_without_control_value() -> None:
    graph = GraphBuilder()
    graph.add("KSampler", inputs=(("model", "MODEL"),), widgets=(42, 10, 1.0, "euler"))
    assert prompt_of(graph)["1"]["inputs"]["steps"] == 10


def test_the_upload_button_of_a_picture_is_no_input() -> None:
    graph = GraphBuilder()
    graph.add("LoadImage", widgets=("a.png", "image"))
    graph.add("LoadWithOption", widgets=("a.png", "image", 0.5))
    graph.add("LoadWithOption", widgets=("a.png",))
    prompt = prompt_of(graph)
    assert [prompt[key]["inputs"] for key in "123"] == [
        {"image": "a.png"},
        {"image": "a.png", "scale": 0.5},
        {"image": "a.png"},
    ]


def test_a_widget_turned_into_an_input_takes_the_link_and_keeps_its_place() -> None:
    graph = GraphBuilder()
    source = graph.add("EmptyImage", outputs=(("n", "INT"),), widgets=(1, 2, 3, 4))
    scale = graph.add(
        "ImageScale", inputs=(("image", "IMAGE"), ("*width", "INT")), widgets=("nearest", 512, 256), outputs=IMAGE_OUT
    )
    graph.link(source, 0, scale, "width")
    assert prompt_of(graph)["2"]["inputs"] == {"upscale_method": "nearest", "width": ["1", 0], "height": 256}


def test_inputs_that_are_forced_to_be_links_have_no_widget() -> None:
    graph = GraphBuilder()
    graph.add("TextBox", inputs=(("lines", "STRING"),), widgets=("hello",))
    assert prompt_of(graph)["1"]["inputs"] == {"text": "hello"}


def test_widgets_of_several_types_and_of_the_optional_part() -> None:
    graph = GraphBuilder()
    graph.add("Multi", inputs=(("wire", "PLAN"),), widgets=(1.5, "so"))
    assert prompt_of(graph)["1"]["inputs"] == {"amount": 1.5, "note": "so"}


def test_widget_values_by_name() -> None:
    graph = GraphBuilder()
    graph.add("ImageScale", inputs=(("image", "IMAGE"),), widgets={"upscale_method": "area", "height": 2, "width": 1})
    assert prompt_of(graph)["1"]["inputs"] == {"upscale_method": "area", "width": 1, "height": 2}


def test_choices_that_bring_inputs_of_their_own() -> None:
    graph = GraphBuilder()
    for values in (
        ["p", "mp4", "h264", 18.0, False],
        ["p", "mp4", "h264"],
        ["p", "mp4", "auto", False],
        ["p", "auto"],
        [],
    ):
        graph.add("SaveVideo", inputs=(("video", "VIDEO"),), widgets=values)
    inputs = [node["inputs"] for node in prompt_of(graph).values()]
    mp4 = {"filename_prefix": "p", "format": "mp4"}
    assert inputs == [
        {**mp4, "format.codec": "h264", "format.codec.crf": 18.0, "after": False},
        {**mp4, "format.codec": "h264", "format.codec.crf": 23.0, "after": True},
        {**mp4, "format.codec": "auto", "after": False},
        {"filename_prefix": "p", "format": "auto", "after": True},
        {"filename_prefix": "video/ComfyUI", "format": "auto", "after": True},
    ]


def test_setting_a_widget_that_the_file_is_too_old_for() -> None:
    graph = GraphBuilder()
    graph.add("SaveVideo", inputs=(("video", "VIDEO"),), widgets=["p", "mp4"])
    workflow = Workflow(graph.data, INFO)
    (node,) = workflow.find("SaveVideo")
    workflow.set_widget(node, "after", False)
    assert node["widgets_values"] == ["p", "mp4", "auto", False]
    assert workflow.get_widget(node, "after") is False


def test_a_list_in_a_widget_is_not_taken_for_a_link() -> None:
    graph = GraphBuilder()
    graph.add("TextBox", widgets=([1, 2],))
    assert prompt_of(graph)["1"]["inputs"]["text"] == {"__value__": [1, 2]}


def test_notes_are_left_out_and_reroutes_are_followed() -> None:
    graph = GraphBuilder()
    graph.add("Note", widgets=("read me",))
    graph.add("MarkdownNote", widgets=("# read me",))
    empty = graph.add("EmptyImage", outputs=IMAGE_OUT, widgets=(8, 8, 1, 0))
    first = graph.add("Reroute", inputs=(("", "*"),), outputs=(("", "IMAGE"),))
    second = graph.add("Reroute", inputs=(("", "*"),), outputs=(("", "IMAGE"),))
    save = graph.add("SaveImage", inputs=(("images", "IMAGE"),), widgets=("x",))
    graph.link(empty, 0, first, "")
    graph.link(first, 0, second, "")
    graph.link(second, 0, save, "images")
    prompt = prompt_of(graph)
    assert set(prompt) == {"3", "6"}
    assert prompt["6"]["inputs"]["images"] == ["3", 0]


def test_a_ring_of_reroutes_is_an_error() -> None:
    graph = GraphBuilder()
    first = graph.add("Reroute", inputs=(("", "*"),), outputs=(("", "IMAGE"),))
    second = graph.add("Reroute", inputs=(("", "*"),), outputs=(("", "IMAGE"),))
    save = graph.add("SaveImage", inputs=(("images", "IMAGE"),), widgets=("x",))
    graph.link(first, 0, second, "")
    graph.link(second, 0, first, "")
    graph.link(second, 0, save, "images")
    with pytest.raises(WorkflowError, match="leads back to itself"):
        prompt_of(graph)


def test_a_primitive_gives_its_value() -> None:
    graph = GraphBuilder()
    primitive = graph.add("PrimitiveNode", outputs=(("INT", "INT"),), widgets=(77, "fixed"))
    scale = graph.add("ImageScale", inputs=(("image", "IMAGE"), ("*width", "INT")), widgets=("area", 1, 2))
    graph.link(primitive, 0, scale, "width")
    assert prompt_of(graph) == {
        "2": {
            "class_type": "ImageScale",
            "inputs": {"upscale_method": "area", "width": 77, "height": 2},
            "_meta": {"title": "ImageScale"},
        }
    }


def test_a_bypassed_node_hands_on_the_input_of_its_outputs_type() -> None:
    graph = GraphBuilder()
    empty = graph.add("EmptyImage", outputs=IMAGE_OUT, widgets=(8, 8, 1, 0))
    scale = graph.add(
        "ImageScale",
        inputs=(("*width", "INT"), ("image", "IMAGE")),
        outputs=IMAGE_OUT,
        widgets=("area", 1, 2),
        mode=4,
    )
    save = graph.add("SaveImage", inputs=(("images", "IMAGE"),), widgets=("x",))
    graph.link(empty, 0, scale, "image")
    graph.link(scale, 0, save, "images")
    prompt = prompt_of(graph)
    assert set(prompt) == {"1", "3"}
    assert prompt["3"]["inputs"]["images"] == ["1", 0]


def test_a_muted_node_is_left_out_with_the_links_from_it() -> None:
    graph = picture_graph()
    graph.nodes[0]["mode"] = 2
    assert prompt_of(graph)["2"]["inputs"] == {"filename_prefix": "plain"}


def test_an_unknown_node_is_named() -> None:
    graph = GraphBuilder()
    graph.add("FancyNode")
    with pytest.raises(WorkflowError, match="workflow needs the node 'FancyNode', which this ComfyUI does not have"):
        prompt_of(graph)


def test_setting_a_widget_changes_the_file_and_the_prompt_alike() -> None:
    graph = GraphBuilder()
    graph.add("KSampler", inputs=(("model", "MODEL"),), widgets=(42, "fixed", 10, 1.0, "euler"))
    workflow = Workflow(graph.data, INFO)
    (node,) = workflow.find("KSampler")
    workflow.set_widget(node, "steps", 4)
    workflow.set_widget(node, "seed", 1)
    assert node["widgets_values"] == [1, "fixed", 4, 1.0, "euler"]
    assert workflow.get_widget(node, "steps") == 4
    assert workflow.to_prompt()["1"]["inputs"]["seed"] == 1
    assert graph.nodes[0]["widgets_values"][0] == 42, "the caller's data must stay as it was"


def test_setting_what_cannot_be_set_is_an_error() -> None:
    graph = GraphBuilder()
    source = graph.add("EmptyImage", outputs=(("n", "INT"),), widgets=(1, 2, 3, 4))
    scale = graph.add("ImageScale", inputs=(("*width", "INT"),), widgets=("area", 1, 2))
    graph.link(source, 0, scale, "width")
    workflow = Workflow(graph.data, INFO, "demo.json")
    (node,) = workflow.find("ImageScale")
    with pytest.raises(WorkflowError, match=r"demo\.json: ImageScale has no widget 'size'; it has upscale_method, w"):
        workflow.set_widget(node, "size", 1)
    with pytest.raises(WorkflowError, match="gets width from another node"):
        workflow.set_widget(node, "width", 1)


def test_finding_by_type_and_title() -> None:
    graph = picture_graph()
    workflow = Workflow(graph.data, INFO)
    assert [node["id"] for node in workflow.find("SaveImage")] == [2]
    assert [node["id"] for node in workflow.find("SaveImage", "Keep these")] == [2]
    assert workflow.find("SaveImage", "Save Image") == []
    del workflow.data["nodes"][1]["title"]
    assert workflow.title(workflow.data["nodes"][1]) == "Save Image"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"workflow file .*w\.json is missing"),
        ("{oops", r"workflow file .*w\.json is not JSON"),
        ("[]", r"w\.json must be a workflow saved by ComfyUI's editor"),
        (json.dumps({"1": {"class_type": "SaveImage", "inputs": {}}}), "must be a workflow saved by"),
        (json.dumps({"nodes": [], "links": [], "definitions": {"subgraphs": [{}]}}), "holds subgraphs"),
        (json.dumps({"nodes": [], "links": [], "definitions": [1]}), "must be a workflow saved by"),
        (json.dumps({"nodes": [3], "links": []}), "must be a workflow saved by"),
        (json.dumps({"nodes": [{"type": "SaveImage"}], "links": []}), "must be a workflow saved by"),
        (json.dumps({"nodes": [{"id": [1], "type": "SaveImage"}], "links": []}), "must be a workflow saved by"),
        (json.dumps({"nodes": [{"id": 1, "type": "a", "inputs": [3]}], "links": []}), "must be a workflow saved by"),
        (json.dumps({"nodes": [], "links": 3}), "must be a workflow saved by"),
        (json.dumps({"nodes": [], "links": [[1, 2]]}), "must be a workflow saved by"),
        (json.dumps({"nodes": [], "links": [[[1], 2, 3, 4, 5]]}), "must be a workflow saved by"),
        ("[" * 100_000, "is not JSON"),
        ("9" * 5000, "is not JSON"),
        ("\udc80\x1b[2J", "is not JSON"),
    ],
)
def test_files_that_are_no_workflow(tmp_path: Path, content: str | None, message: str) -> None:
    file = tmp_path / "w.json"
    if content is not None:
        file.write_text(content, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(WorkflowError, match=message) as caught:
        Workflow.load(file, INFO)
    assert str(caught.value).isprintable()

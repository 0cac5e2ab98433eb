"""What saved workflows rely on (ids, inputs and outputs of every node) and what users do (tooltips, names, help)."""

import ast
import inspect
import json
import os
from pathlib import Path

import pytest

pytestmark = pytest.mark.comfyui
SNAPSHOT = Path(__file__).with_name("schema_snapshot.json")
IDS = (
    "VisualPlannerTinyLoader",
    "VisualPlannerLoraLoader",
    "VisualPlannerLookIntoLora",
    "VisualPlannerTrajectory",
    "VisualPlannerTrajectoryOverlay",
    "VisualPlannerImportTrajectory",
    "VisualPlannerExportTrajectory",
    "VisualPlannerTrackPoints",
    "VisualPlannerPrompt",
    "VisualPlannerCondition",
    "VisualPlannerKeepFrames",
    "VisualPlannerSliceGrid",
    "VisualPlannerCheck",
    "VisualPlannerLook",
    "VisualPlannerExtend",
    "VisualPlannerJoin",
    "VisualPlannerGridLayout",
    "VisualPlannerAssembleGrid",
    "VisualPlannerMaskFirstFrame",
    "VisualPlannerRank",
    "VisualPlannerScene",
    "VisualPlannerPlanToActions",
    "VisualPlannerExecute",
    "VisualPlannerTrainingData",
    "VisualPlannerTrain",
)
FILE_LISTS = {"lora_name", "base_lora_name"}
NOT_OURS = FILE_LISTS | {"sampler_name", "scheduler", "recipe", "data", "start_lora"}
"""Inputs that offer what ComfyUI or the user's disk has."""


@pytest.fixture
def schemas(comfy):
    return {node_id: comfy.node(node_id).GET_SCHEMA() for node_id in IDS}


def test_the_nodes_are_these(comfy):
    assert comfy.own_node_ids() == sorted(IDS)


def describe(cls) -> dict:
    """What a saved workflow or a prompt depends on."""
    inputs = {
        name: [str(kind), how, None if name in FILE_LISTS else settings.get("default"), options(name, settings)]
        for how, group in cls.INPUT_TYPES().items()
        if how != "hidden"
        for name, (kind, settings) in group.items()
    }
    outputs = [[output.id, str(output.io_type), output.display_name] for output in cls.GET_SCHEMA().outputs]
    return {"inputs": inputs, "outputs": outputs, "output_node": cls.OUTPUT_NODE}


def options(name, settings):
    return None if name in NOT_OURS else settings.get("options")


def test_the_interface_is_the_recorded_one(comfy):
    """Ids, order and types are for ever; additions are recorded with VISUAL_PLANNER_RECORD=1."""
    now = {node_id: describe(comfy.node(node_id)) for node_id in IDS}
    if os.environ.get("VISUAL_PLANNER_RECORD"):
        SNAPSHOT.write_text(json.dumps(now, indent=1) + "\n", encoding="utf-8")
    recorded = json.loads(SNAPSHOT.read_text(encoding="utf-8"))
    assert now.keys() == recorded.keys()
    for node_id in IDS:
        assert now[node_id] == recorded[node_id], f"{node_id} changed: workflows saved with it may break"


def test_what_shows_something_is_an_output_node(comfy):
    """ComfyUI sends a cached node's text and picture again only where the node is an output node.

    Two nodes at the beginning of every graph are none: with them, ComfyUI would accept a prompt whose rest is wrong.
    """
    for node_id in IDS:
        source = inspect.getsource(comfy.node(node_id))
        shows = "ui=" in source or node_id == "VisualPlannerExtend"
        first = node_id in ("VisualPlannerLoraLoader", "VisualPlannerPrompt")
        assert (shows and not first) == comfy.node(node_id).OUTPUT_NODE, node_id


def test_everything_is_explained(schemas):
    for node_id, schema in schemas.items():
        assert schema.display_name.endswith("(Visual Planner)"), node_id
        assert schema.category.startswith("visual planner/"), node_id
        assert len(schema.description) > 40, node_id
        for field in schema.inputs:
            assert field.tooltip and field.tooltip.endswith("."), f"{node_id}: input {field.id} has no tooltip"
        for output in schema.outputs:
            assert output.tooltip and output.tooltip.endswith("."), f"{node_id}: output {output.id} has no tooltip"
            assert output.display_name, f"{node_id}: output {output.id} has no name"


def test_input_and_output_ids_do_not_coincide(schemas):
    """Some ComfyUI versions refuse that."""
    for node_id, schema in schemas.items():
        assert not {field.id for field in schema.inputs} & {output.id for output in schema.outputs}, node_id


def test_execute_takes_every_input_with_the_default_of_its_widget(comfy):
    """A workflow without a widget's value (saved by an older version) runs with what the widget shows."""
    import inspect

    for node_id in IDS:
        cls = comfy.node(node_id)
        parameters = inspect.signature(cls.execute).parameters
        groups = {how: group for how, group in cls.INPUT_TYPES().items() if how != "hidden"}
        names = [name for group in groups.values() for name in group]
        assert set(names) == set(parameters), node_id
        for name, (_, settings) in groups.get("optional", {}).items():
            assert parameters[name].default is not inspect.Parameter.empty, f"{node_id}.{name}"
            assert parameters[name].default == settings.get("default"), f"{node_id}.{name}"


@pytest.mark.parametrize("node_id", IDS)
def test_each_node_has_a_help_page(repository, schemas, node_id):
    page = (repository / "web" / "docs" / f"{node_id}.md").read_text(encoding="utf-8")
    schema = schemas[node_id]
    assert page.startswith(f"# {schema.display_name.removesuffix(' (Visual Planner)')}\n")
    for field in schema.inputs:
        assert f"**{field.display_name or field.id}**" in page, f"input {field.id} is not explained"
    for output in schema.outputs:
        assert f"**{output.display_name}**" in page, f"output {output.display_name} is not explained"
    assert "## Example" in page and "## Pitfalls" in page


def test_no_help_page_without_a_node(repository):
    pages = {page.stem for page in (repository / "web" / "docs").glob("*.md")}
    assert pages == set(IDS)


def test_nothing_heavy_is_imported_at_start(repository):
    """Only inside functions, so when a node runs; the tiny text encoders are imported so themselves.

    safetensors does not count: ComfyUI itself imports it before any plugin.
    """
    heavy = {"cv2", "diffusers", "peft", "mujoco", "transformers", "scipy", "PIL", "av", "simulation"}
    files = [
        repository / "__init__.py",
        *(repository / "nodes").rglob("*.py"),
        *(repository / "visual_planner").rglob("*.py"),
    ]
    checked = 0
    for file in files:
        if file.name in ("tiny_text.py", "tiny_qwen.py"):
            continue
        for statement in ast.parse(file.read_text(encoding="utf-8")).body:
            names = []
            if isinstance(statement, ast.Import):
                names = [alias.name for alias in statement.names]
            elif isinstance(statement, ast.ImportFrom) and not statement.level:
                names = [statement.module]
            assert not {name.split(".")[0] for name in names} & heavy, file
            checked += len(names)
    assert checked > 30


def test_nodes_are_thin(repository):
    """Schemas and one call: `execute` in 15 lines, files under 300."""
    for file in (repository / "nodes").rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        assert len(text.splitlines()) < 300, file
        for item in ast.walk(ast.parse(text)):
            if isinstance(item, ast.FunctionDef) and item.name == "execute":
                body = item.end_lineno - item.body[0].lineno + 1
                assert body <= 15, f"{file.name}: execute has {body} lines"

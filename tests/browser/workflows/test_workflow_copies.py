"""API prompts and App mode copies of the workflow files: they are copies, and a plain HTTP client runs them."""

from __future__ import annotations

import copy
import io
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import av
import pytest
from browser.workflow_files import APPS, KLEIN, RUNNABLE, TRAINED, JsonObject, read
from PIL import Image

from launcher.client import ComfyClient
from launcher.copies import API, API_FOLDER, APP_NAMES, GOAL_INPUT, app_copy, texts
from launcher.errors import LauncherError
from launcher.paths import EXAMPLES, ROOT, WORKFLOWS

GUIDE = ROOT / "docs" / "guides" / "http.md"
PICTURE = EXAMPLES / "first_frame.png"


def api(name: str) -> JsonObject:
    return json.loads((API_FOLDER / f"{name}.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The client of the guide, as a reader copies it."""
    blocks = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 1
    file = tmp_path_factory.mktemp("client") / "plan.py"
    file.write_text(blocks[0], encoding="utf-8")
    return file


def run_client(script: Path, server: str, prompt: Path, out: Path, *more: str) -> subprocess.CompletedProcess:
    """Python without this environment's packages, in a folder where nothing of the repository can be imported."""
    command = [sys.executable, "-I", "-S", str(script), server, str(prompt), str(PICTURE), str(out), *more]
    return subprocess.run(command, capture_output=True, text=True, cwd=script.parent, timeout=600)


def test_the_copies_are_those_of_the_files(client: ComfyClient) -> None:
    made = texts(client.object_info())
    found = [*API_FOLDER.glob("*.json"), *WORKFLOWS.glob("*.app.json")]
    assert sorted(path.relative_to(WORKFLOWS).as_posix() for path in found) == sorted(made)
    written = {path: (WORKFLOWS / path).read_text(encoding="utf-8") for path in made}
    old = [path for path, text in made.items() if not same(json.loads(written[path]), json.loads(text))]
    assert old == [], "run `.venv/bin/python -m launcher.copies`"


def same(file: JsonObject, made: JsonObject) -> bool:
    """Whether a copy is that of its file; a newer ComfyUI's Save Video and Create Video may have other widgets."""
    if "nodes" in file or file.keys() != made.keys():
        return file == made
    for number, node in file.items():
        other = made[number]
        more = node["class_type"] in ("SaveVideo", "CreateVideo") and node["inputs"].keys() < other["inputs"].keys()
        if more and any(name.startswith(f"{key}.") for key in node["inputs"] for name in other["inputs"]):
            # nested choices: what was a widget beside the choice is one below it
            node = node | {"inputs": {key: value for key, value in node["inputs"].items() if key != "codec"}}
        if more:
            other = other | {"inputs": {key: other["inputs"][key] for key in node["inputs"]}}
        if node != other:
            return False
    return True


def test_a_changed_copy_is_seen() -> None:
    file = api("tiny_text")
    assert same(file, copy.deepcopy(file))
    for kind, name in (("SaveVideo", "filename_prefix"), ("KSampler", "steps")):
        other = copy.deepcopy(file)
        next(node for node in other.values() if node["class_type"] == kind)["inputs"][name] = "other"
        assert not same(file, other)


def test_every_plan_that_runs_here_and_klein_have_an_api_copy() -> None:
    assert sorted(API) == sorted({*RUNNABLE, TRAINED, *KLEIN})
    assert len(list(API_FOLDER.iterdir())) <= 12


@pytest.mark.parametrize("name", RUNNABLE)
def test_a_plain_client_runs_it(client: ComfyClient, script: Path, tmp_path: Path, name: str) -> None:
    """As it is: no key is changed, and every picture and video arrives."""
    result = run_client(script, client.url, API_FOLDER / f"{name}.json", tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    files = sorted(tmp_path.iterdir())
    assert [line for line in map(str, files) if line not in result.stdout] == []
    videos = [file for file in files if file.suffix == ".mp4"]
    saved = [node for node in api(name).values() if node["class_type"] == "SaveVideo"]
    assert len(videos) == len(saved)
    for video in videos:
        with av.open(io.BytesIO(video.read_bytes())) as opened:
            assert sum(1 for _ in opened.decode(video=0)) >= 9
    for file in files:
        if file.suffix == ".png":
            assert max(Image.open(file).convert("L").getextrema()) > 0


def test_the_guides_command_plans_another_instruction(client: ComfyClient, script: Path, tmp_path: Path) -> None:
    """The command as it stands, but for the server's address and the folder of the results."""
    (line,) = re.findall(r"^python3 plan\.py (.*)$", GUIDE.read_text(encoding="utf-8"), re.MULTILINE)
    _, prompt, picture, _, instruction = shlex.split(line)
    assert (ROOT / picture).read_bytes() == PICTURE.read_bytes()
    assert run_client(script, client.url, ROOT / prompt, tmp_path / "a").returncode == 0
    told = run_client(script, client.url, ROOT / prompt, tmp_path / "b", instruction)
    assert told.returncode == 0, told.stderr
    grids = [next((tmp_path / folder).glob("grid*")).read_bytes() for folder in "ab"]
    assert grids[0] != grids[1]
    asked = [entry for entry in client.get("/history").values() if instruction in json.dumps(entry["prompt"])]
    assert [entry["status"]["status_str"] for entry in asked] == ["success"]


@pytest.mark.parametrize("name", KLEIN)
def test_kleins_is_refused_for_nothing_but_weights(
    client: ComfyClient, script: Path, tmp_path: Path, name: str
) -> None:
    """And the client says in one line what is missing."""
    result = run_client(script, client.url, API_FOLDER / f"{name}.json", tmp_path / "none")
    assert result.returncode == 1
    lines = result.stderr.strip().splitlines()
    lacking = {"flux-2-klein-4b.safetensors", "qwen_3_4b.safetensors", "flux2-vae.safetensors"}
    assert all("Value not in list" in line for line in lines), lines
    assert {file for file in lacking if any(file in line for line in lines)} == lacking
    others = [line for line in lines if not any(file in line for file in (*lacking, "klein_planner.safetensors"))]
    assert others == []
    assert not (tmp_path / "none").exists(), "nothing is written of a plan that does not run"


def test_the_client_names_what_a_node_says(client: ComfyClient, script: Path, tmp_path: Path) -> None:
    prompt = api("tiny_text")
    next(node for node in prompt.values() if node["class_type"] == "VisualPlannerPrompt")["inputs"]["instruction"] = ""
    file = tmp_path / "empty.json"
    file.write_text(json.dumps(prompt), encoding="utf-8")
    result = run_client(script, client.url, file, tmp_path / "none")
    assert result.returncode == 1
    assert "Planner Prompt" in result.stderr and "instruction" in result.stderr and "Traceback" not in result.stderr


def test_minimum_versions_and_packs_are_in_api_copies() -> None:
    for name in API:
        wanted = "0.9.2" if name in KLEIN else "0.3.75"
        for node in api(name).values():
            ours = node["class_type"].startswith("VisualPlanner")
            told = (node["_meta"]["cnr_id"], node["_meta"]["ver"])
            assert told == (("comfyui-visual-planner", "0.1.0") if ours else ("comfy-core", wanted)), name


@pytest.mark.parametrize("app", APPS)
def test_an_app_asks_for_what_the_graph_has(app: str) -> None:
    """Every widget and every result that App mode shows is one of the graph's, in the order of a user's work."""
    name = next(name for name, found in APP_NAMES.items() if found == app)
    data = read(app)
    nodes = {node["id"]: node for node in data["nodes"]}
    shown = data["extra"]["linearData"]
    assert data["extra"]["linearMode"] is True
    asked = [(nodes[entry[0]]["type"], entry[1]) for entry in shown["inputs"]]
    drawn = [("VisualPlannerTrajectory", "trajectory_editor")] if name.endswith(("trajectory", "both")) else []
    pictures = ["First frame", *(["Goal picture"] if name.endswith("goal") else [])]
    told = [nodes[entry[0]]["title"] for entry in shown["inputs"] if entry[1] == "image"]
    assert told == pictures
    assert [entry[2]["description"] == GOAL_INPUT for entry in shown["inputs"][: len(told)]] == [
        title == "Goal picture" for title in told
    ]
    first = [("LoadImage", "image")] * len(pictures) + [("VisualPlannerPrompt", "instruction")]
    assert asked == [*first, *drawn, ("KSampler", "seed"), ("KSampler", "steps")]
    assert nodes[shown["outputs"][0]]["type"] == "SaveVideo"
    assert app_copy(read(name)) == data


def test_a_graph_without_results_is_no_app() -> None:
    data = read("tiny_text")
    data["nodes"] = [node for node in data["nodes"] if not node["type"].startswith(("Save", "VisualPlannerCheck"))]
    with pytest.raises(LauncherError, match="must have one of SaveVideo, SaveImage, VisualPlannerCheck"):
        app_copy(data)

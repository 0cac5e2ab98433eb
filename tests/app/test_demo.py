"""`run.py demo` against the real server: three modes, pictures and trajectories of the user's own, and bad input."""

from __future__ import annotations

import errno
import io
import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from launcher import demo, demo_inputs, demo_results
from launcher.__main__ import main
from launcher.comfyui import ComfyUI
from launcher.demo_inputs import read_picture
from launcher.errors import LauncherError
from launcher.options import MODES
from launcher.paths import EXAMPLES
from launcher.server import ComfyServer
from support.planner import TINY, planner_plugin
from visual_planner.grid.cells import slice_grid
from visual_planner.grid.layout import GridLayout
from visual_planner.planner import prompts

FRAMES = 9
PATH = EXAMPLES / "trajectory.json"


@pytest.fixture(scope="module")
def plugin_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the plugin, with its planner, that a test may break and must mend."""
    return planner_plugin(tmp_path_factory.mktemp("plugin") / "visual_planner")


@pytest.fixture(scope="module")
def planner_server(comfyui: ComfyUI, plugin_folder: Path, tmp_path_factory) -> Iterator[ComfyServer]:
    with ComfyServer(comfyui, base=tmp_path_factory.mktemp("base"), cpu=True, plugin=plugin_folder) as server:
        yield server


@pytest.fixture
def run(planner_server: ComfyServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Runs the demo command on the module's server; returns (exit code, stdout, stderr)."""

    @contextmanager
    def shared(comfyui: ComfyUI, **settings) -> Iterator[ComfyServer]:
        yield planner_server

    monkeypatch.setattr(demo, "ComfyServer", shared)

    def call(*arguments: object) -> tuple[int, str, str]:
        code = main(["demo", *map(str, arguments)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture
def no_server(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Runs the demo command where a start of the server would be a mistake: bad input must be seen before."""

    def refuse(*arguments, **settings):
        raise AssertionError("the server was started for input that cannot be used")

    monkeypatch.setattr(demo, "ComfyServer", refuse)

    def call(*arguments: object) -> tuple[int, str]:
        code = main(["demo", *map(str, arguments)])
        return code, capsys.readouterr().err

    return call


def pixels(file: Path) -> np.ndarray:
    with Image.open(file) as picture:
        return np.asarray(picture.convert("RGB"))


def write_trajectory(file: Path, width: int, height: int) -> Path:
    points = [{"x": width * 0.5, "y": height * 0.2}, {"x": width * 0.3, "y": height * 0.6}]
    paths = [{"name": "gripper", "points": points, "interpolation": "spline"}]
    file.write_text(json.dumps({"version": 1, "width": width, "height": height, "paths": paths}))
    return file


def one_error(text: str) -> str:
    lines = [line for line in text.strip().splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, text
    assert "Traceback" not in text
    return lines[0].removeprefix("error: ")


# --- plans ---


def test_the_modes_are_those_of_planners() -> None:
    assert MODES == prompts.MODES


@pytest.mark.parametrize("mode", MODES)
def test_a_plan_in_each_mode(run: Callable, tmp_path: Path, mode: str) -> None:
    out = tmp_path / "made" / "plan"
    code, stdout, stderr = run("--mode", mode, "--out", out, "--seed", 5)
    assert code == 0, stderr
    assert stdout.split() == [str(out / name) for name in ("plan.mp4", "grid.png", "frames", "report.json")]
    check_plan_files(out)
    report = json.loads((out / "report.json").read_text())
    assert (report["mode"], report["seed"]) == (mode, 5)
    assert (report["instruction"] is not None) == prompts.parts_of(mode).text
    assert report["steps"] >= 1
    # Not "load": on the shared server the planner stays loaded from plan to plan.
    assert report["seconds"].keys() >= {"server_start", "text", "condition", "sample", "decode", "save", "run"}
    assert report["diagnostics"]["checks"].keys() >= {"static", "motion", "seams", "drift", "ghosting"}
    assert ("path" in report["diagnostics"]["checks"]) == prompts.parts_of(mode).path
    assert report["versions"].keys() >= {"visual_planner", "comfyui", "torch", "python"}
    assert [path.name for path in out.parent.iterdir()] == ["plan"], "nothing else may be left behind"


def check_plan_files(out: Path) -> None:
    names = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    frames = [f"frames/{index:03}.png" for index in range(FRAMES)]
    assert names == [*frames, "grid.png", "plan.mp4", "report.json"]
    sliced = slice_grid(pixels_tensor(out / "grid.png"), GridLayout(3, 3, "serpentine"))
    for index, name in enumerate(frames):
        assert np.array_equal(pixels(out / name), sliced[index].numpy()), f"{name} is not its cell of the grid"
    with av.open(str(out / "plan.mp4")) as video:
        decoded = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
    assert len(decoded) == FRAMES
    assert decoded[0].shape == pixels(out / frames[0]).shape
    assert np.abs(decoded[4].astype(float) - pixels(out / frames[4])).mean() < 16, "the video shows other frames"


def pixels_tensor(file: Path):
    import torch

    return torch.from_numpy(pixels(file).copy())[None]


def test_the_grid_carries_the_workflow_that_was_run(run: Callable, tmp_path: Path) -> None:
    assert run("--mode", "text", "--instruction", "Reach the Blue cube.", "--seed", 11, "--out", tmp_path)[0] == 0
    with Image.open(tmp_path / "grid.png") as grid:
        workflow, prompt = json.loads(grid.info["workflow"]), json.loads(grid.info["prompt"])
    seeds = [node["inputs"]["seed"] for node in prompt.values() if "seed" in node["inputs"]]
    assert seeds == [11]
    texts = [node["widgets_values"] for node in workflow["nodes"] if node["type"] == "VisualPlannerPrompt"]
    assert "Reach the Blue cube." in texts[0]
    assert json.loads((tmp_path / "report.json").read_text())["instruction"] == "Reach the Blue cube."


@pytest.mark.parametrize("drawn", [False, True], ids=["no path", "path"])
@pytest.mark.parametrize("told", [False, True], ids=["no instruction", "instruction"])
def test_the_goal_is_part_of_the_plan(run: Callable, tmp_path: Path, drawn: bool, told: bool) -> None:
    """The mode follows from the options, and another goal picture is another plan."""
    more = [*(["--instruction", "push"] if told else []), *(["--trajectory", PATH] if drawn else [])]
    made = []
    for name in ("goal", "first_frame"):
        code, _, stderr = run("--goal", EXAMPLES / f"{name}.png", *more, "--out", tmp_path / name, "--steps", 2)
        assert code == 0, stderr
        made.append(pixels(tmp_path / name / "grid.png"))
    assert not np.array_equal(*made)
    usual = {(False, False): "", (True, False): "text_", (False, True): "trajectory_", (True, True): "both_"}
    assert json.loads((tmp_path / "goal" / "report.json").read_text())["mode"] == f"{usual[told, drawn]}goal"


def test_the_seed_decides_the_plan(run: Callable, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert run("--out", tmp_path / name, "--seed", seed, "--steps", 2)[0] == 0
    grids = {name: pixels(tmp_path / name / "grid.png") for name in "abc"}
    assert np.array_equal(grids["a"], grids["b"])
    assert not np.array_equal(grids["a"], grids["c"])
    assert json.loads((tmp_path / "a" / "report.json").read_text())["steps"] == 2


@pytest.mark.parametrize("kind", ["RGBA", "L", "I;16", "P", "1", "JPEG"])
def test_first_frames_of_every_kind(run: Callable, tmp_path: Path, kind: str) -> None:
    file = write_picture(tmp_path / ("scene.jpg" if kind == "JPEG" else "scene.png"), kind)
    trajectory = write_trajectory(tmp_path / "path.json", 100, 80)
    out = tmp_path / "out"
    code, _, stderr = run(
        "--first-frame", file, "--trajectory", trajectory, "--instruction", "push", "--out", out, "--steps", 1
    )
    assert code == 0, stderr
    assert json.loads((out / "report.json").read_text())["mode"] == "both"
    check_plan_files(out)


def write_picture(file: Path, kind: str, size: tuple[int, int] = (100, 80)) -> Path:
    width, height = size
    ramp = np.linspace(0, 1, width)[None, :].repeat(height, 0)
    if kind == "I;16":
        Image.fromarray((ramp * 65535).astype(np.uint16)).save(file)
        return file
    picture = Image.fromarray((ramp * 255).astype(np.uint8))
    picture.convert("RGB" if kind == "JPEG" else kind).save(file)
    return file


@pytest.mark.parametrize("kind", ["RGB", "RGBA", "L", "LA", "I;16", "P"])
def test_pictures_of_every_kind_show_the_same(tmp_path: Path, kind: str) -> None:
    expected = np.linspace(0, 255, 100)[None, :, None]
    array = read_picture(write_picture(tmp_path / "ramp.png", kind))
    assert array.shape == (80, 100, 3)
    assert np.abs(array - expected).max() <= (26 if kind == "P" else 1.5), "a palette has few greys"


def test_what_is_transparent_is_black(tmp_path: Path) -> None:
    picture = Image.new("RGBA", (40, 40), (255, 255, 255, 0))
    picture.save(tmp_path / "clear.png")
    assert read_picture(tmp_path / "clear.png").max() == 0


def test_old_results_are_replaced_and_strangers_stay(run: Callable, tmp_path: Path) -> None:
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames" / "014.png").write_text("of an older, longer plan")
    (tmp_path / "frames" / "notes.txt").write_text("mine")
    (tmp_path / "report.json").write_text("old")
    assert run("--out", tmp_path, "--steps", 1)[0] == 0
    assert not (tmp_path / "frames" / "014.png").exists()
    assert (tmp_path / "frames" / "notes.txt").read_text() == "mine"
    assert json.loads((tmp_path / "report.json").read_text())["mode"] == "text"


def test_an_instruction_that_is_not_used_is_said(run: Callable, tmp_path: Path) -> None:
    code, _, stderr = run("--mode", "trajectory", "--instruction", "dance", "--out", tmp_path, "--steps", 1)
    assert code == 0
    assert "mode trajectory ignores the instruction" in stderr


# --- bad input: one line, nothing written, no server started ---


def trajectory_text(*points: tuple, **more) -> str:
    path = {"name": "gripper", "points": [{"x": x, "y": y} for x, y in points], "interpolation": "spline"}
    return json.dumps({"version": 1, "width": 64, "height": 64, "paths": [path], **more})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (trajectory_text(), r"trajectory .*path\.json: .*point"),
        (trajectory_text((1, 2)), r"trajectory .*path\.json: .*point"),
        (trajectory_text((1, 2), (float("nan"), 3)), r"trajectory .*path\.json: .*"),
        (trajectory_text((1, 2), (640, 3)), r"trajectory .*path\.json: .*"),
        (trajectory_text((1, 2), (3, 4), version=99), r"trajectory .*path\.json: .*version"),
        ("", r"trajectory .*path\.json: .*"),
        ("{oops", r"trajectory .*path\.json: .*line 1"),
        ("[]", r"trajectory .*path\.json: .*"),
        (b"\xff\xfe\x00bad", r"trajectory .*path\.json: trajectory must be JSON, but line 1 column 1"),
        (None, r"trajectory .*path\.json does not exist"),
    ],
    ids=["no point", "one point", "NaN", "outside", "version", "empty", "broken", "no path", "binary", "missing"],
)
def test_bad_trajectories(no_server: Callable, tmp_path: Path, content: str | bytes | None, message: str) -> None:
    file = tmp_path / "path.json"
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif content is not None:
        file.write_text(content)
    code, stderr = no_server("--trajectory", file, "--out", tmp_path / "out")
    assert code == 1
    assert re.search(message, one_error(stderr))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("case", ["missing", "text", "truncated", "folder", "huge"])
def test_bad_first_frames(no_server: Callable, tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "scene.png"
    messages = {
        "missing": "does not exist",
        "text": "must be a picture",
        "truncated": "first frame",
        "folder": "cannot be read",
        "huge": "must have sides of at most 50 px, got 100x80",
    }
    if case == "text":
        file.write_text("not a picture")
    elif case == "truncated":
        data = io.BytesIO()
        Image.effect_noise((200, 200), 50).save(data, "PNG")
        file.write_bytes(data.getvalue()[:5000])
    elif case == "folder":
        file.mkdir()
    elif case == "huge":
        write_picture(file, "RGB")
        monkeypatch.setattr(demo_inputs, "MAX_SIDE_PX", 50)
    code, stderr = no_server("--first-frame", file, "--out", tmp_path / "out")
    assert code == 1
    assert messages[case] in one_error(stderr)
    assert str(file) in one_error(stderr)
    assert not (tmp_path / "out").exists()


def test_what_does_not_go_together(no_server: Callable, tmp_path: Path) -> None:
    scene = write_picture(tmp_path / "scene.png", "RGB")
    code, stderr = no_server("--mode", "trajectory", "--first-frame", scene, "--out", tmp_path / "out")
    assert code == 1
    assert "mode trajectory with --first-frame needs --trajectory" in one_error(stderr)
    code, stderr = no_server("--mode", "goal", "--first-frame", scene, "--out", tmp_path / "out")
    assert code == 1
    assert "mode goal with --first-frame needs --goal" in one_error(stderr)
    code, stderr = no_server("--mode", "text", "--goal", scene, "--out", tmp_path / "out")
    assert code == 1
    assert one_error(stderr) == (
        "--goal must come with a mode that takes a goal picture (goal, text_goal, trajectory_goal, both_goal), "
        "got mode text"
    )
    code, stderr = no_server("--goal", tmp_path / "none.png", "--out", tmp_path / "out")
    assert code == 1
    assert one_error(stderr) == f"goal picture {tmp_path / 'none.png'} does not exist"
    for more in ([], ["--goal", scene]):
        code, stderr = no_server("--instruction", "  ", *more, "--out", tmp_path / "out")
        assert code == 1
        assert "--instruction must say what the robot should do" in one_error(stderr)
    code, stderr = no_server("--instruction", "  ", "--out", tmp_path / "out")
    assert code == 1
    assert "--instruction must say what the robot should do" in one_error(stderr)
    code, stderr = no_server("--out", scene)
    assert code == 1
    assert "--out must be a folder" in one_error(stderr)


@pytest.mark.parametrize("arguments", [["--steps", "0"], ["--seed", "-1"], ["--mode", "dance"], ["--steps", "many"]])
def test_wrong_usage(no_server: Callable, arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        no_server(*arguments)
    assert caught.value.code == 2


# --- failures while it runs: one line, nothing half written ---


@contextmanager
def moved_away(file: Path) -> Iterator[Path]:
    aside = file.with_name(file.name + ".aside")
    file.rename(aside)
    try:
        yield aside
    finally:
        file.unlink(missing_ok=True)
        aside.rename(file)


@pytest.mark.parametrize("part", ["transformer", "vae"])
@pytest.mark.parametrize("damage", ["missing", "truncated"])
def test_a_model_file_that_is_not_whole(
    run: Callable, plugin_folder: Path, tmp_path: Path, part: str, damage: str
) -> None:
    file = plugin_folder / TINY / part / "diffusion_pytorch_model.safetensors"
    with moved_away(file) as aside:
        if damage == "truncated":
            shutil.copyfile(aside, file)
            with file.open("r+b") as stream:
                stream.truncate(file.stat().st_size // 2)
        code, _, stderr = run("--out", tmp_path / "out", "--steps", 1)
    assert code == 1
    assert "tiny planner's" in one_error(stderr)
    assert not (tmp_path / "out").exists()
    assert run("--out", tmp_path / "out", "--steps", 1)[0] == 0, "the mended file must be loaded again"


def test_a_full_disk_leaves_the_old_results(run: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    assert run("--out", out, "--steps", 1)[0] == 0
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    original = Path.write_bytes

    def write_bytes(self: Path, data: bytes) -> int:
        if self.name == "004.png":
            raise OSError(errno.ENOSPC, "No space left on device", str(self))
        return original(self, data)

    monkeypatch.setattr(Path, "write_bytes", write_bytes)
    code, _, stderr = run("--out", out, "--steps", 1, "--seed", 8)
    assert code == 1
    assert one_error(stderr) == f"{out} cannot be written: No space left on device"
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_workflow_without_a_needed_node_is_named(
    run: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = json.loads((demo.WORKFLOWS / "tiny_text.json").read_text())
    data["nodes"] = [node for node in data["nodes"] if node["type"] != "SaveVideo"]
    (tmp_path / "tiny_text.json").write_text(json.dumps(data))
    monkeypatch.setattr(demo, "WORKFLOWS", tmp_path)
    code, _, stderr = run("--out", tmp_path / "out", "--steps", 1)
    assert code == 1
    assert one_error(stderr) == "tiny_text.json produced no video (Save Video)"
    monkeypatch.setattr(demo, "WORKFLOWS", tmp_path / "nowhere")
    assert "workflow file" in one_error(run("--out", tmp_path / "out")[2])


def test_numbers_that_json_lacks_become_null() -> None:
    assert demo_results._without_nan({"a": [float("nan"), 1.0], "b": (float("inf"),)}) == {
        "a": [None, 1.0],
        "b": [None],
    }


def test_errors_of_the_system_are_explained() -> None:
    from launcher.errors import describe_os_error

    assert describe_os_error(OSError(errno.EACCES, "Permission denied", "/x")) == (
        "no permission to write (/x): Permission denied"
    )
    assert describe_os_error(OSError(errno.ENOENT, "No such file", "/x")) == "No such file (/x)"
    assert "free some space" in describe_os_error(OSError(errno.ENOSPC, "No space left on device"))
    assert issubclass(LauncherError, Exception)

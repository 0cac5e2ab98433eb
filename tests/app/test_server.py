"""The real server: started, used, cancelled, and always ended."""

from __future__ import annotations

import http.server
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher import server as server_module
from launcher.client import ComfyClient, PromptCancelled, PromptError, explain_failure, explain_refusal
from launcher.comfyui import ComfyUI
from launcher.errors import LauncherError
from launcher.server import ComfyServer, first_free_port, free_port, prepare_base
from launcher.workflow import Workflow
from support.fixtures import deprecations
from support.graphs import picture_graph

pytestmark = pytest.mark.comfyui


def test_a_workflow_file_runs_and_its_files_come_back(comfy_client: ComfyClient, object_info: dict) -> None:
    graph = picture_graph(count=3, color=0x3366CC)
    workflow = Workflow(graph.data, object_info)
    events = []
    run = comfy_client.run(workflow.to_prompt(), graph.data, lambda kind, data: events.append(kind))
    files = run.files("2")
    assert len(files) == 3
    assert all(comfy_client.download(file).startswith(b"\x89PNG") for file in files)
    assert set(run.node_seconds) == {"1", "2"}
    assert 0 < sum(run.node_seconds.values()) <= run.seconds + 0.01
    assert "execution_success" in events


def test_results_of_cached_nodes_come_back_too(comfy_client: ComfyClient, object_info: dict) -> None:
    graph = picture_graph(count=2, color=0x010203)
    prompt = Workflow(graph.data, object_info).to_prompt()
    first, second = comfy_client.run(prompt), comfy_client.run(prompt)
    assert first.files("2") == second.files("2")
    assert second.node_seconds == {}


def test_an_uploaded_picture_is_found_by_its_name(comfy_client: ComfyClient) -> None:
    png = bytes.fromhex(
        "89504e470d0a1a0a0000000d49484452000000010000000108020000009077"
        "53de0000000c4944415408d763f8cfc00000030101001863d9870000000049454e44ae426082"
    )
    name = comfy_client.upload_image(png, "tiny dot.png")
    options = comfy_client.get("/object_info/LoadImage")["LoadImage"]["input"]["required"]["image"][0]
    assert name in options


def test_a_refused_prompt_names_node_and_input(comfy_client: ComfyClient, object_info: dict) -> None:
    graph = picture_graph()
    prompt = Workflow(graph.data, object_info).to_prompt()
    prompt["1"]["inputs"]["width"] = "wide"
    with pytest.raises(PromptError, match=r"^Empty ?Image: .*width, wide") as caught:
        comfy_client.run(prompt)
    assert "\n" not in str(caught.value)


def test_a_failing_node_is_one_line(comfy_client: ComfyClient, object_info: dict) -> None:
    graph = picture_graph()
    prompt = Workflow(graph.data, object_info).to_prompt()
    prompt["3"] = {
        "class_type": "ImageBatch",
        "inputs": {"image1": ["1", 0], "image2": ["1", 5]},
        "_meta": {"title": "Join"},
    }
    prompt["2"]["inputs"]["images"] = ["3", 0]
    with pytest.raises(PromptError, match=r"^Join: |refused") as caught:
        comfy_client.run(prompt)
    assert "\n" not in str(caught.value)


def test_deprecations_of_ours_are_found_in_a_log() -> None:
    ours = [
        "[DEPRECATION WARNING] Detected import of deprecated legacy API: /scripts/ui.js.",
        "/base/custom_nodes/visual_planner/nodes/wires.py:3: DeprecationWarning: use io.Schema",
        "visual_planner: NODE_DISPLAY_NAME_MAPPINGS is deprecated",
    ]
    others = ["/venv/torch/jit.py:3: DeprecationWarning: `torch.jit.script` is deprecated", "got prompt", ""]
    assert deprecations("\n".join([others[0], *ours, *others[1:]])) == ours


def test_cancelling_ends_the_run(comfy_client: ComfyClient, comfy_server: ComfyServer, object_info: dict) -> None:
    prompt = Workflow(picture_graph(count=16).data, object_info).to_prompt()
    prompt["1"]["inputs"] |= {"width": 256, "height": 256}
    for number in range(3, 203):  # a long chain: cancelling works between nodes
        source = [str(number - 1), 0] if number > 3 else ["1", 0]
        prompt[str(number)] = {
            "class_type": "ImageBlur",
            "inputs": {"image": source, "blur_radius": 8, "sigma": 2.0},
        }
    prompt["2"]["inputs"]["images"] = ["202", 0]
    running = threading.Event()

    def cancel() -> None:
        running.wait(60)
        ComfyClient(comfy_server.url).interrupt()

    canceller = threading.Thread(target=cancel)
    canceller.start()
    with pytest.raises(PromptCancelled):
        comfy_client.run(prompt, on_event=lambda kind, data: running.set() if kind == "executing" else None)
    canceller.join()


def test_a_client_without_server_says_so() -> None:
    with pytest.raises(PromptError, match=r"the ComfyUI server at http://127\.0\.0\.1:\d+ does not answer"):
        ComfyClient(f"http://127.0.0.1:{free_port()}").run({})


def test_the_session_server_has_our_plugin_and_leaves_comfyui_clean(
    comfy_server: ComfyServer, comfyui: ComfyUI
) -> None:
    assert comfy_server.seconds_to_start > 0
    assert (comfy_server.base / "custom_nodes" / "visual_planner").exists()
    assert not (comfyui.folder / "user" / "default").exists() or not comfyui.bundled


def test_planner_errors_are_shown_without_their_type() -> None:
    prompt = {"3": {"class_type": "VisualPlannerTrajectory", "inputs": {}, "_meta": {"title": "Trajectory"}}}
    data = {
        "node_id": "3",
        "exception_type": "/base/custom_nodes/visual_planner.visual_planner.errors.TrajectoryError",
        "exception_message": "points must be at least 2, got 1\n",
    }
    assert explain_failure(data, prompt) == "Trajectory: points must be at least 2, got 1"
    assert explain_failure({**data, "exception_type": "builtins.KeyError"}, prompt).startswith("Trajectory: KeyError: ")


def test_refusals_without_json_are_shown() -> None:
    assert explain_refusal(b"<html>502</html>", {}) == "the ComfyUI server refused the workflow: <html>502</html>"
    assert "no_prompt" in explain_refusal(b'{"error": {"message": "no_prompt", "details": ""}}', {})


# --- ends and failures, with a stand-in for ComfyUI where its ten seconds of start would teach nothing more ---


@pytest.fixture
def fake_comfyui(tmp_path: Path):
    """Makes a ComfyUI whose main.py is the given code."""

    def make(code: str) -> ComfyUI:
        folder = tmp_path / "comfyui"
        folder.mkdir()
        (folder / "main.py").write_text(textwrap.dedent(code))
        return ComfyUI(folder, "0.3.75", Path(sys.executable), bundled=True)

    return make


ANSWERING = """
    import http.server, json, subprocess, sys
    port = int(sys.argv[sys.argv.index("--port") + 1])
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    print("child", child.pid, flush=True)
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200); self.end_headers()
            self.wfile.write(json.dumps({"system": {"argv": sys.argv}}).encode())
    http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


CHILDLESS = "\n".join(line for line in ANSWERING.splitlines() if "child" not in line)
"""The same without a child process: nobody is left to end it where the launcher is killed."""


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_for_end(pid: int, seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not alive(pid)


def child_pid(log: str) -> int:
    return int(next(line for line in log.splitlines() if line.startswith("child ")).split()[1])


def test_the_server_and_its_children_end_with_the_block(fake_comfyui) -> None:
    with ComfyServer(fake_comfyui(ANSWERING)) as server:
        base, pid, child = server.base, server.process.pid, child_pid(server.log_tail())
        assert alive(pid)
        assert alive(child)
    assert wait_for_end(pid)
    assert wait_for_end(child)
    assert not base.exists()


def test_the_server_ends_when_the_block_raises(fake_comfyui) -> None:
    with pytest.raises(KeyboardInterrupt), ComfyServer(fake_comfyui(ANSWERING)) as server:
        pid, child = server.process.pid, child_pid(server.log_tail())
        raise KeyboardInterrupt
    assert wait_for_end(pid)
    assert wait_for_end(child)


def test_a_server_that_ignores_the_request_to_end_is_killed(fake_comfyui, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "STOP_TIMEOUT", 0.5)
    stubborn = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + textwrap.dedent(ANSWERING)
    with ComfyServer(fake_comfyui(stubborn)) as server:
        pid = server.process.pid
    assert wait_for_end(pid)


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's help is asked for on Linux alone")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_no_server_outlives_a_killed_launcher(fake_comfyui, repository: Path, number: signal.Signals) -> None:
    comfyui = fake_comfyui(CHILDLESS)
    code = f"""
        import time
        from pathlib import Path
        from launcher.comfyui import ComfyUI
        from launcher.server import ComfyServer
        with ComfyServer(ComfyUI(Path({str(comfyui.folder)!r}), "0.3.75", Path({sys.executable!r}), True)) as server:
            print(server.process.pid, flush=True)
            time.sleep(600)
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=repository) as launcher:
        pid = int(launcher.stdout.readline())
        os.kill(launcher.pid, number)
    assert wait_for_end(pid)


def test_a_server_that_ends_while_starting_shows_its_log(fake_comfyui) -> None:
    comfyui = fake_comfyui("import sys; print('CUDA is on holiday'); sys.exit(7)")
    with pytest.raises(LauncherError, match=r"ended with code 7 while starting \(log: .*\)\n  \| CUDA is on holiday"):
        ComfyServer(comfyui).__enter__()


def test_a_server_that_never_answers_is_given_up(fake_comfyui) -> None:
    server = ComfyServer(fake_comfyui("import time; time.sleep(600)"), start_timeout=1.0)
    with pytest.raises(LauncherError, match="did not answer within 1 s"):
        server.__enter__()
    assert server.process is None


def test_a_comfyui_that_lacks_packages_points_to_its_own_python(fake_comfyui) -> None:
    own = fake_comfyui("import a_package_of_tomorrow")
    comfyui = ComfyUI(own.folder, "0.33.0", own.python, bundled=False)
    with pytest.raises(LauncherError, match="lacks the package a_package_of_tomorrow; set COMFYUI_PYTHON to"):
        ComfyServer(comfyui).__enter__()


def test_a_plugin_that_cannot_be_loaded_is_an_error(fake_comfyui) -> None:
    complaint = "print('Cannot import /b/custom_nodes/visual_planner module for custom nodes: no cv2', flush=True)\n"
    with pytest.raises(LauncherError, match="could not load the plugin: Cannot import .* no cv2"):
        ComfyServer(fake_comfyui(complaint + textwrap.dedent(ANSWERING))).__enter__()


ANSWERS = {
    "another ComfyUI": json.dumps({"system": {"argv": ["main.py", "--port", "8188"]}}).encode(),
    "no argv": b'{"system": {}}',
    "another form": b"[1, 2]",
    "a page": b"<html>welcome</html>",
}


@pytest.fixture(params=[*ANSWERS, "404"])
def stranger(request) -> Iterator[int]:
    """Port of another program, which got there first."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(404 if request.param == "404" else 200)
            self.end_headers()
            self.wfile.write(ANSWERS.get(request.param, b""))

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def test_a_stranger_on_the_port_is_not_taken_for_the_server(fake_comfyui, stranger: int) -> None:
    server = ComfyServer(fake_comfyui(ANSWERING), port=stranger)
    with pytest.raises(LauncherError, match=f"while starting, since another program took port {stranger} meanwhile"):
        server.__enter__()
    assert server.process is None


def test_a_stranger_is_not_taken_while_our_own_still_starts(fake_comfyui, stranger: int) -> None:
    server = ComfyServer(fake_comfyui("import time; time.sleep(600)"), port=stranger, start_timeout=1.0)
    with pytest.raises(LauncherError, match=f"did not answer within 1 s, since another program took port {stranger}"):
        server.__enter__()
    assert server.process is None


def test_no_free_port(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: socket.socket, address: tuple[str, int]) -> None:
        raise OSError(98, "Address already in use")

    monkeypatch.setattr(socket.socket, "bind", refuse)
    with pytest.raises(LauncherError, match=r"no free TCP port on 127\.0\.0\.1 for the ComfyUI server"):
        free_port()
    with pytest.raises(LauncherError, match=r"no free TCP port on 127\.0\.0\.1 from 65530 to 65535: name another"):
        first_free_port(65530)


def test_the_next_port_is_taken_when_one_is_busy() -> None:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = busy.getsockname()[1]
        assert first_free_port(port) > port


def test_the_plugin_is_linked_again_when_it_has_moved(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "new").mkdir()
    prepare_base(tmp_path / "base", tmp_path / "old")
    prepare_base(tmp_path / "base", tmp_path / "new")
    assert (tmp_path / "base" / "custom_nodes" / "visual_planner").resolve() == tmp_path / "new"


def test_where_links_are_impossible_the_plugin_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plugin = tmp_path / "plugin"
    (plugin / ".venv" / "lib").mkdir(parents=True)
    (plugin / "nodes").mkdir()
    (plugin / "__init__.py").touch()

    def refuse(self: Path, target: Path, target_is_directory: bool = False) -> None:
        raise OSError("a privilege is missing")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    for _ in range(2):  # a second start replaces the copy
        prepare_base(tmp_path / "base", plugin)
    copy = tmp_path / "base" / "custom_nodes" / "visual_planner"
    assert sorted(path.name for path in copy.iterdir()) == ["__init__.py", "nodes"]

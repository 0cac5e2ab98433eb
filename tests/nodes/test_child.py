"""The simulator's own process: the same pictures whatever OpenGL the server has loaded; kept, ended, started again."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

pytestmark = pytest.mark.comfyui
SCENE = {"seed": 9_000_001, "task": "pick", "wordings": "held_out", "camera_jitter": 0.0, "size": 64}
WORLD = """
import ctypes, os, sys, time
import numpy
from visual_planner.errors import PlannerError
CALLS = ("echo", "noise", "refuse", "fail", "crash", "leave", "wait", "platform")
def echo(**arguments):
    return arguments
def noise():
    print("a library's banner")
    os.write(1, b"written by C code\\n" * 1000)
    os.write(2, b"a warning\\n" * 10000)
    return os.read(0, 10)
def refuse():
    raise PlannerError("seed must be a number, got\\n'x'")
def fail():
    return {}["seed"]
def crash():
    sys.stderr.write("libEGL warning: no device\\n")
    sys.stderr.flush()
    ctypes.string_at(0)
def leave():
    os._exit(3)
def wait():
    time.sleep(600)
def platform():
    return os.environ.get("PYOPENGL_PLATFORM")
def hidden():
    return "not one of CALLS"
"""


@pytest.fixture
def made(module, monkeypatch, tmp_path):
    """A child of its own that knows one more world, `test`."""
    (tmp_path / "a_test_world.py").write_text(WORLD)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    code = module("nodes.comfy.processes.child")
    start = code._START.replace("; main()", "; import worlds.child as c; c.CALLS['test'] = 'a_test_world'; main()")
    assert start != code._START
    monkeypatch.setattr(code, "_START", start)
    child = code.Child()
    yield child
    child.close()


def gone(pid: int) -> bool:
    """Whether a process ends (or is only waited for) in half a minute."""
    for _ in range(300):
        try:
            os.kill(pid, 0)
            with open(f"/proc/{pid}/stat") as file:
                if file.read().rpartition(")")[2].split()[0] == "Z":
                    return True
        except OSError:
            return True
        time.sleep(0.1)
    return False


@pytest.mark.parametrize("platform", ["egl", "glx", "osmesa", "angle", ""])
def test_a_servers_own_opengl_changes_nothing(module, monkeypatch, platform):
    """ComfyUI 0.33 loads ANGLE and sets PYOPENGL_PLATFORM; MuJoCo in that process has no Renderer then."""
    from simulation.episode import draw_request, first_frame
    from simulation.errors import SimulationError
    from simulation.world import World

    try:
        with World(64) as world:
            request = draw_request(SCENE["seed"], ("pick",), "held_out", 0.0)
            truth = first_frame(world, request)
    except SimulationError as error:
        pytest.skip(f"NO RENDERING TEST HAS RUN: {error}")
    monkeypatch.setenv("PYOPENGL_PLATFORM", platform)
    monkeypatch.setitem(sys.modules, "mujoco", None)  # the server's process cannot even import it
    child = module("nodes.comfy.processes.child").Child()
    try:
        drawn = child.call("jaco", "draw", **SCENE)
    finally:
        child.close()
    np.testing.assert_array_equal(drawn["frame"], truth)
    assert drawn["instruction"] == request.instruction and drawn["task"] == "pick"
    assert os.environ["PYOPENGL_PLATFORM"] == platform, "the server's own environment stays"


def test_values_come_back_as_they_were(made):
    values = {"array": np.arange(6.0).reshape(2, 3), "text": "ä\n", "nothing": None, "bytes": bytes(range(256)) * 5000}
    back = made.call("test", "echo", **values)
    np.testing.assert_array_equal(back.pop("array"), values.pop("array"))
    assert back == values


def test_it_is_started_once_and_kept(made):
    assert made.pid is None
    made.call("test", "echo")
    pid = made.pid
    made.call("test", "echo")
    assert made.pid == pid
    made.close()
    assert gone(pid) and made.pid is None


def test_what_libraries_print_does_not_disturb_the_answers(made):
    assert made.call("test", "noise") == b""
    assert made.call("test", "echo", a=1) == {"a": 1}


def test_the_servers_opengl_platform_is_not_the_childs(made, monkeypatch):
    monkeypatch.setenv("PYOPENGL_PLATFORM", "egl")
    assert made.call("test", "platform") is None


@pytest.mark.parametrize(
    ("world", "call", "line"),
    [
        ("test", "refuse", r"^seed must be a number, got\\n'x'$"),
        ("test", "fail", r"^the simulator failed in fail of world test: KeyError: 'seed'; the log has the traceback$"),
        ("test", "hidden", r"^call must be one of echo, .*platform in world test, got 'hidden'$"),
        ("mars", "draw", r"^world must be one of jaco, metaworld, got 'mars'$"),
    ],
)
def test_an_error_is_one_line_and_the_process_stays(made, world, call, line):
    made.call("test", "echo")
    pid = made.pid
    with pytest.raises(ValueError, match=line):
        made.call(world, call)
    assert made.call("test", "echo", a=1) == {"a": 1} and made.pid == pid


@pytest.mark.parametrize(
    ("call", "line"),
    [
        ("crash", "^the simulator's process was ended by SIGSEGV during crash; "
                  "it last said: libEGL warning: no device; the next run starts it again$"),
        ("leave", "^the simulator's process ended with code 3 during leave; the next run starts it again$"),
    ],
)  # fmt: skip
def test_a_crash_is_one_line_and_the_next_call_works(made, call, line):
    made.call("test", "echo")
    pid = made.pid
    with pytest.raises(ValueError, match=line):
        made.call("test", call)
    assert made.call("test", "echo", a=1) == {"a": 1} and made.pid != pid


def test_killed_while_nobody_asks_it_is_started_again(made):
    made.call("test", "echo")
    pid = made.pid
    os.kill(pid, signal.SIGKILL)
    made._running.process.wait(30)
    assert made.pid is None
    assert made.call("test", "echo", a=1) == {"a": 1} and made.pid not in (pid, None)


def test_killed_while_it_works(made):
    made.call("test", "echo")
    with pytest.raises(ValueError, match="was ended by SIGKILL during wait; the next run starts it again"):
        made.call("test", "wait", check=lambda: os.kill(made.pid, signal.SIGKILL) if made.pid else None)
    assert made.call("test", "echo", a=1) == {"a": 1}


def test_cancel_ends_what_it_does(made, monkeypatch):
    import comfy.model_management as management

    made.call("test", "echo")
    pid = made.pid
    management.interrupt_current_processing(True)
    with pytest.raises(management.InterruptProcessingException):
        made.call("test", "wait")
    assert gone(pid)
    assert made.call("test", "echo", a=1) == {"a": 1}


@pytest.mark.parametrize("ending", ["kill", "exit", "busy"])
def test_it_ends_with_the_server_however_that_ends(repository, module, tmp_path, ending):
    """A server that is killed, that ends by itself, and one that is killed while the simulator works."""
    (tmp_path / "a_test_world.py").write_text(WORLD)
    package = "plugin"
    script = f"""
import importlib.util, os, signal, sys, threading, types
for name in ("{package}", "{package}.nodes", "{package}.nodes.comfy", "{package}.visual_planner"):
    holder = types.ModuleType(name)
    holder.__path__ = [{str(repository)!r} + "/" + "/".join(name.split(".")[1:])]
    sys.modules[name] = holder
code = importlib.import_module("{package}.nodes.comfy.processes.child")
code._START = code._START.replace("; main()", "; import worlds.child as c; c.CALLS['test'] = 'a_test_world'; main()")
child = code.Child()
child.call("test", "echo", check=lambda: None)
print(child.pid, flush=True)
if "{ending}" == "busy":
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGKILL)).start()
    child.call("test", "wait", check=lambda: None)
if "{ending}" == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
"""
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, env=environment, cwd=tmp_path
    )
    assert done.returncode == (0 if ending == "exit" else -signal.SIGKILL), done.stderr
    assert gone(int(done.stdout))

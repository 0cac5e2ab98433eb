"""Who may import whom, and what importing costs. Reads the repository's sources; nothing is imported but the core."""

import ast
import subprocess
import sys

import pytest

from support.imports import ROOT, Import, all_imports, dotted, imports_of, loaded_at_start, source_files

ALLOWED = {
    "visual_planner": set(),
    "runtime": set(),
    "nodes": {"visual_planner"},
    "simulation": {"visual_planner", "runtime"},
    "worlds": {"visual_planner", "simulation", "runtime"},
    "training": {"visual_planner", "simulation", "worlds", "runtime"},
    "launcher": {"runtime"},
    "benchmarks": {"visual_planner", "nodes", "simulation", "worlds", "training", "launcher", "runtime"},
    "run.py": {"launcher"},
    "__init__.py": {"nodes"},
}
"""nodes -> visual_planner <- simulation <- worlds <- training, and nothing else; commands stand on runtime."""
ROOMS = tuple(name for name in ALLOWED if not name.endswith(".py"))

ALLOWED_IN_FILES = {
    # The demo's own steps run inside the finished environment, unlike the rest of the launcher.
    ("launcher/demo.py", "visual_planner"): "anywhere",
    ("launcher/demo_goal.py", "visual_planner"): "anywhere",
    ("launcher/demo_inputs.py", "visual_planner"): "anywhere",
    ("launcher/demo_results.py", "visual_planner"): "anywhere",
    # Bounds that look at pictures need a read-out and an autoencoder, which training opens.
    ("worlds/metaworld/__main__.py", "training"): "lazily",
    # `run.py bench` hands over to the benchmarks when they are asked for.
    ("launcher/__main__.py", "benchmarks"): "lazily",
}

CORE_PACKAGES = {"torch", "numpy", "cv2", "PIL"}
HEAVY = {"diffusers", "transformers", "peft", "accelerate", "mujoco", "cv2", "pyarrow", "matplotlib", "skimage"}
NO_FILES_NO_NETWORK = {
    *("os", "io", "pathlib", "shutil", "tempfile", "glob", "subprocess", "multiprocessing", "importlib", "sys"),
    *("socket", "ssl", "http", "urllib", "ftplib", "asyncio", "requests"),
}


def permitted(room: str, entry: Import) -> bool:
    if entry.target not in ROOMS or entry.target == room or entry.target in ALLOWED[room]:
        return True
    how = ALLOWED_IN_FILES.get((entry.file, entry.target))
    return how == "anywhere" or (how == "lazily" and not entry.at_start)


def test_every_room_is_read():
    assert all(source_files(room) for room in ALLOWED)
    assert sum(len(source_files(room)) for room in ALLOWED) > 50
    assert sum(entry.target in ROOMS for room in ALLOWED for entry in all_imports(room)) > 150


def test_no_file_belongs_to_an_unknown_room():
    folders = {path.parts[0] for path in (p.relative_to(ROOT) for p in ROOT.glob("[!.]*/*.py"))}
    assert folders <= {*ROOMS, "tests"}
    assert {path.name for path in ROOT.glob("*.py")} == {"run.py", "__init__.py"}


@pytest.mark.parametrize("room", ALLOWED)
def test_imports_go_only_in_the_allowed_direction(room):
    wrong = [f"{e.file} imports {e.name}" for e in all_imports(room) if not permitted(room, e)]
    assert not wrong


@pytest.mark.parametrize("room", ["visual_planner", "nodes", "__init__.py"])
def test_the_plugin_reaches_its_own_rooms_by_relative_imports(room):
    # ComfyUI loads the plugin under a name made from its path: an absolute name would miss it, or find another pack's.
    absolute = [f"{e.file} imports {e.name}" for e in all_imports(room) if e.target in ROOMS and not e.relative]
    assert not absolute


def test_the_simulation_names_other_rooms_in_one_file():
    """It runs inside the plugin as well as beside `training`; `simulation/shared.py` knows both names of the core."""
    files = {e.file for e in all_imports("simulation") if e.target in ROOMS and e.target != "simulation"}
    assert files == {"simulation/shared.py", "simulation/__main__.py"}
    command_line = {e.target for e in all_imports("simulation") if e.file == "simulation/__main__.py"}
    assert command_line & set(ROOMS) <= {"simulation", "runtime"}


def test_the_simulation_loads_under_the_name_that_comfyui_gives_the_plugin(tmp_path):
    """As in a server: the repository's root is on no path, and only the plugin's name leads to its rooms."""
    modules = [dotted(path) for path in source_files("simulation") if not path.name.startswith("__")]
    assert len(modules) > 20
    script = f"""
import importlib, sys, types
plugin = types.ModuleType("/custom_nodes/any")
plugin.__path__ = [{str(ROOT)!r}]
sys.modules[plugin.__name__] = plugin
for module in {modules!r}:
    importlib.import_module(plugin.__name__ + "." + module)
core = importlib.import_module(plugin.__name__ + ".visual_planner.errors")
errors = importlib.import_module(plugin.__name__ + ".simulation.errors")
assert issubclass(errors.SimulationError, core.PlannerError)
assert not {{"visual_planner", "simulation"}} & set(sys.modules), "a second copy was loaded"
"""
    command = [sys.executable, "-P", "-c", script]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_the_core_needs_only_arrays_and_touches_no_file_or_network():
    for path in source_files("visual_planner"):
        for entry in imports_of(path):
            outside = entry.target != "visual_planner" and entry.target not in sys.stdlib_module_names
            assert not outside or entry.target in CORE_PACKAGES, entry
            assert entry.target not in NO_FILES_NO_NETWORK, entry
        calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
        names = {call.func.id for call in calls if isinstance(call.func, ast.Name)}
        assert not names & {"open", "exec", "eval", "__import__", "print"}, path


def test_comfyui_loads_nothing_heavy_with_the_plugin():
    files = loaded_at_start(ROOT / "__init__.py")
    assert {"nodes", "visual_planner"} <= {path.parent.name for path in files} and len(files) > 15
    heavy = [
        f"{e.file} imports {e.name}" for path in files for e in imports_of(path) if e.at_start and e.target in HEAVY
    ]
    assert not heavy


def test_importing_the_core_loads_no_picture_library_and_no_model_library():
    modules = [dotted(path) for path in source_files("visual_planner")]
    assert len(modules) >= 13
    script = f"""
import sys, importlib
loaded = lambda: {{name.split(".")[0] for name in sys.modules}}
import visual_planner
assert not any(name.startswith("visual_planner.") for name in sys.modules), "the package alone must load nothing"
for module in ("errors", "grid.layout", "planner.prompts"):
    importlib.import_module("visual_planner." + module)
assert not {{"torch", "numpy"}} & loaded(), "plain modules must load no arrays"
for module in {modules!r}:
    importlib.import_module(module)
heavy = loaded() & set({sorted({*HEAVY, "PIL", "comfy", "scipy", "safetensors", "torchvision"})!r})
assert not heavy, sorted(heavy)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr

"""The commands of docs/guides, in the order of their page, on small data: what a reader types works."""

import os
import re
import shlex
import shutil

import pytest
import yaml
from safetensors import safe_open

import simulation.__main__ as simulation_command
import training.__main__ as training_command
from support.imports import ROOT
from support.small_world import config_for
from training.sections.config import load_config, save_config

GUIDES = ROOT / "docs" / "guides"
LEROBOT = ROOT / "tests" / "training" / "data" / "lerobot" / "v30_image"
MAINS = {"simulation": simulation_command.main, "training": training_command.main}
INSTALLS = re.compile(r"pip install")
"""Installing is held by tests/core/test_core_packages.py and by the launcher's tests."""
ELSEWHERE = {"goal_pictures.md", "http.md"}
"""Need a server: tests/app/test_commands.py and tests/browser/workflows run these pages' commands."""


def commands_of(page):
    """The command lines of a page's code blocks, fenced or indented, in their order."""
    lines = (line.strip() for line in (GUIDES / page).read_text(encoding="utf-8").splitlines())
    return [line for line in lines if re.match(r"(python3? |pip )", line)]


def run(command, capsys):
    """Run `python -m PACKAGE …` in this process; returns what it printed."""
    words = shlex.split(command)
    assert words[:2] == ["python", "-m"], command
    code = MAINS[words[2]](words[3:])
    printed = capsys.readouterr()
    assert code == 0, f"{command}: {printed.err}"
    return printed.out


def blocks_of(page, language):
    return re.findall(rf"```{language}\n(.*?)```", (GUIDES / page).read_text(encoding="utf-8"), re.DOTALL)


def test_every_command_of_the_guides_is_run_here():
    pages = [page.name for page in GUIDES.glob("*.md") if page.name not in ELSEWHERE]
    found = {page: [c for c in commands_of(page) if not INSTALLS.match(c)] for page in pages}
    assert {name for name, commands in found.items() if commands} == {
        "execute.md",
        "lerobot_to_comfyui.md",
        "several_machines.md",
    }
    assert all(shlex.split(command)[2] in MAINS for commands in found.values() for command in commands)


def test_from_a_lerobot_data_set_to_a_file_in_comfyui(world, tmp_path, monkeypatch, capsys):
    """The recipe with the page's own change, brought to the size of a test; then each command as it stands."""
    recipe = yaml.safe_load((ROOT / "training" / "configs" / "flux_dev_24gb.yaml").read_text())
    recipe["spec"].update(yaml.safe_load(blocks_of("lerobot_to_comfyui.md", "yaml")[0])["spec"])
    small = config_for(world)
    recipe["spec"].update(cell_height=32, cell_width=32, steps=1)
    recipe["prepare"].update(validation_episodes=1, processes=1)
    recipe["cache"].update(base=str(world / "base"), text_tokens=24, dtype="float32")
    recipe["train"].update(base=str(world / "base"), base_dtype="float32", mixed_precision="no", max_steps=2)
    recipe["train"].update(gradient_accumulation=1, save_every=1)
    recipe["train"]["optimizer"].update(learning_rate=0.01, warmup_steps=0)
    recipe["train"]["validation"].update(scenes=1, dtype="float32")
    recipe["train"]["lora"].update(rank=small.train.lora.rank, alpha=small.train.lora.alpha, targets="all_linear")
    recipe["evaluate"].update(base=str(world / "base"), scenes=1, dtype="float32")
    (tmp_path / "my.yaml").write_text(yaml.safe_dump(recipe))
    loras = tmp_path / "ComfyUI" / "models" / "loras"
    loras.mkdir(parents=True)
    (tmp_path / "ComfyUI" / "nodes.py").touch()
    monkeypatch.chdir(tmp_path)
    stands_for = {"PATH_OR_HUB_ID": str(LEROBOT), "PATH_OF_COMFYUI": str(tmp_path / "ComfyUI")}
    camera = re.search(r"--camera (\S+)", " ".join(commands_of("lerobot_to_comfyui.md")))
    stands_for[camera[1]] = "observation.images.front"
    for command in commands_of("lerobot_to_comfyui.md"):
        if INSTALLS.match(command):
            continue
        for name, value in stands_for.items():
            command = command.replace(name, value)
        run(command, capsys)
    with safe_open(loras / "planner.safetensors", "pt") as file:
        assert file.metadata()["visual_planner.spec"]
    assert (tmp_path / "output" / "flux" / "evaluation" / "report.html").is_file()
    assert list((tmp_path / "output" / "flux" / "lora" / "validation").glob("*/*.png"))
    assert (tmp_path / "output" / "flux" / "pairs" / "contact_sheet.jpg").is_file()


def test_prepare_on_several_machines(world, tmp_path, monkeypatch, capsys):
    """The commands, and one pod of the Kubernetes job."""
    config = config_for(world)
    config.prepare.out = tmp_path / "pairs"
    save_config(config, tmp_path / "my.yaml")
    monkeypatch.chdir(tmp_path)
    for command in commands_of("several_machines.md"):
        run(command, capsys)
    assert (tmp_path / "pairs" / "dataset.json").is_file()
    pod = yaml.safe_load(blocks_of("several_machines.md", "yaml")[0])["spec"]
    shell, option, line = pod["template"]["spec"]["containers"][0]["command"]
    assert (shell, option, pod["completionMode"]) == ("sh", "-c", "Indexed")
    monkeypatch.setenv("JOB_COMPLETION_INDEX", str(pod["completions"] - 1))
    (tmp_path / "pairs").rename(tmp_path / "done")
    run(os.path.expandvars(line), capsys)
    assert [path.name for path in (tmp_path / ".pairs.shards").iterdir()] == ["00063-of-00064"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder that looks like the repository to commands, whose models may be overwritten."""
    (tmp_path / "training").symlink_to(ROOT / "training")
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "tiny_planner").symlink_to(ROOT / "models" / "tiny_planner")
    shutil.copytree(ROOT / "models" / "readout", tmp_path / "models" / "readout")
    monkeypatch.chdir(tmp_path)
    return tmp_path


SMALLER = [
    (r"--episodes \d+", "--episodes 3 --quiet"),
    (r"--scenes \d+", "--scenes 1"),
    (
        r"training readout (.*)",
        r"training readout \1 --set readout.max_steps=1 --set readout.batch_size=4 --set readout.episodes=3"
        " --set readout.held_out=5 --set readout.planner.episodes=2",
    ),
]


@pytest.mark.timeout(900)
def test_from_a_plan_to_actions(here, capsys):
    for command in commands_of("execute.md"):
        if INSTALLS.match(command) or "training study" in command:
            continue
        for text, smaller in SMALLER:
            command = re.sub(text, smaller, command)
        run(command, capsys)
    for folder in ("play", "demonstrations", "demonstrations_varied", "demonstrations_turned", "demonstrations_moved"):
        assert (here / "output" / "tiny" / folder / "dataset.json").is_file()
    assert (here / "output" / "readout").is_dir()
    assert (here / "closed_loop.json").is_file()


def test_the_pages_other_robot_is_a_valid_configuration(tmp_path):
    text, *_ = (block for block in blocks_of("execute.md", "yaml") if "readout:" in block)
    (tmp_path / "readout.yaml").write_text(text)
    assert load_config(tmp_path / "readout.yaml").readout.gripper_column == 6


@pytest.mark.parametrize("command", [c for c in commands_of("execute.md") if "training study" in c])
def test_a_study_redraws_its_page_from_the_committed_results(command, tmp_path, monkeypatch, capsys):
    """Measuring takes hours; from the results of that run, the same command makes the page that is in docs/studies."""
    name = re.search(r"--out output/studies/(\w+)", command)[1]
    (tmp_path / "training").symlink_to(ROOT / "training")
    out = tmp_path / "output" / "studies" / name
    out.mkdir(parents=True)
    shutil.copy(ROOT / "docs" / "studies" / f"{name}.json", out / "results.json")
    monkeypatch.chdir(tmp_path)
    run(f"{command} --plot-only --page {name}.md", capsys)
    assert (tmp_path / f"{name}.md").read_text() == (ROOT / "docs" / "studies" / f"{name}.md").read_text()
    assert (tmp_path / f"{name}.png").is_file()
    assert os.listdir(out)

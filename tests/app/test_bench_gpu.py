"""The GPU benchmark: its rehearsal on the CPU, parts that fail in every way, resume, and the package that travels."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks import require_own_options
from benchmarks.gpu import pack
from benchmarks.gpu.command import run_gpu
from benchmarks.gpu.measuring.cards import peak_of
from benchmarks.gpu.measuring.flops import Shape, tokens_of, training_step
from benchmarks.gpu.plan import PARTS, runs
from benchmarks.gpu.results import Results, read_results
from benchmarks.gpu.runner import Runner, gpu_asked_of_the_driver
from benchmarks.gpu.size import REHEARSAL
from benchmarks.gpu.summary import summary
from launcher.bootstrap import clean_environment
from launcher.errors import LauncherError
from launcher.options import GPU_BUDGET_S, build_parser, gpu_parser
from launcher.paths import ROOT
from support.gpu_parts import part
from support.inprocess import packages_of
from support.planner import has_shipped_planner

TWINS = (
    "training/klein int8", "training/flux1 fp8", "training/flux1 compiled", "planning/klein compiled",
    "planning/klein fp8", "training/flux1 in 16 GB", "training/flux1 fused adapter", "training/klein fp8 products",
)  # fmt: skip
"""Parts that run no other code than the parts beside them; left out here for the time that they take."""
REHEARSED = tuple(chosen for chosen in PARTS if chosen.name not in TWINS)
BAD = {
    "throws": ("failed", "ValueError: a part that throws", 1),
    "out_of_memory": ("out of memory", "OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 GiB", 2),
    "too_slow": ("timed out", "stopped at its limit, or at the end of the budget", 3),
    "killed": ("crashed", "ended by signal 9 (SIGKILL)", 4),
    "leaves": ("crashed", "ended with exit code 7 before it was done", 5),
}
"""Part -> status, text, and the figure that it had reported before."""


@pytest.fixture(scope="module")
def packed(comfyui, tmp_path_factory) -> Path:
    """A package, with empty files in the place of the wheels."""
    folder = tmp_path_factory.mktemp("package") / "packed"

    def download(packages, target: Path) -> None:
        target.mkdir(exist_ok=True)
        for package in packages:
            (target / f"{package.partition('==')[0]}-1.0-py3-none-any.whl").write_bytes(b"x")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pack, "_download", download)
        text = pack.pack(folder)
    assert (folder / "CONTENTS.txt").read_text() == text
    return folder


@pytest.fixture(scope="module")
def rehearsed(packed, comfyui, tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A rehearsal in the package, with this Python in the place of the GPU machine's.

    What ComfyUI alone needs is in its Python, not in this one: it is lent, as the wheels would bring it.
    """
    for wheel in packed.glob("wheels*/*.whl"):
        wheel.unlink()
    if pack.comfyui_needs(comfyui.folder) and comfyui.python != Path(sys.executable):
        site = packed / "site"
        site.mkdir()
        for folder in packages_of(comfyui.python):
            for package in Path(folder).glob("comfy_*"):
                (site / package.name).symlink_to(package)
    folder = tmp_path_factory.mktemp("rehearsal")
    search = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    only = ",".join(chosen.name for chosen in REHEARSED)
    return folder, subprocess.run(
        ["sh", str(packed / "start.sh"), "--rehearse", "--only", only, "--out", str(folder)],
        env={**clean_environment(), "PATH": search}, capture_output=True, text=True,
    )  # fmt: skip


@pytest.mark.comfyui
def test_a_package_holds_what_travels_and_says_what_may_stay(packed) -> None:
    project, text = packed / "project", (packed / "CONTENTS.txt").read_text()
    assert (packed / "comfyui" / "comfy" / "ldm" / "flux" / "model.py").is_file()
    assert (project / "benchmarks" / "gpu" / "__main__.py").is_file()
    assert (project / "training" / "configs" / "flux_dev_80gb.yaml").is_file()
    assert not list(project.rglob("*.pyc"))
    assert "may stay behind" in text
    assert all(f"  {name}-1.0-py3-none-any.whl" in text for names in pack.WHEELS.values() for name in names)
    with pytest.raises(LauncherError, match="--pack must name a folder that is empty or does not exist"):
        pack.pack(packed)


@pytest.mark.parametrize(
    ("text", "needs"),
    [
        (None, []),
        ("torch\naiohttp>=3.11.8\n", []),
        ("torch\n\n#deps\ncomfy-kitchen==0.2.31\ncomfy_aimdo>=0.4  # memory\ncomfy-angle\n",
         ["comfy-kitchen==0.2.31", "comfy_aimdo>=0.4"]),
    ],
)  # fmt: skip
def test_a_package_brings_what_its_comfyui_imports(tmp_path: Path, text: str | None, needs: list[str]) -> None:
    if text is not None:
        (tmp_path / "requirements.txt").write_text(text)
    assert pack.comfyui_needs(tmp_path) == needs


@pytest.mark.comfyui
@pytest.mark.timeout(GPU_BUDGET_S * REHEARSAL.patience + 300)
@pytest.mark.skipif(not has_shipped_planner(), reason="the shipped planner's weights are not here")
def test_a_rehearsal_runs_every_part(rehearsed) -> None:
    folder, process = rehearsed
    lines = read_results(folder / "results.jsonl")
    assert process.returncode == 0, process.stdout + process.stderr + (folder / "log.txt").read_text()
    assert [line["part"] for line in lines] == [chosen.name for chosen in REHEARSED]
    assert {line["status"] for line in lines} == {"done"}


@pytest.mark.comfyui
@pytest.mark.timeout(GPU_BUDGET_S * REHEARSAL.patience + 300)
@pytest.mark.skipif(not has_shipped_planner(), reason="the shipped planner's weights are not here")
def test_a_rehearsal_measures_what_the_gpu_will(rehearsed) -> None:
    folder, process = rehearsed
    lines = {line["part"]: line["figures"] for line in read_results(folder / "results.jsonl")}
    ways = {"none", "first_cell", "full_grid", "first_cell_cached"}
    for name in ("planning/flux1", "planning/klein", "planning/flux1 in ComfyUI", "planning/klein fp8 in ComfyUI"):
        figures = lines[name]
        assert all(figures[way]["step_s"] > 0 and len(figures[way]["raw_s"]) == REHEARSAL.repeats for way in ways)
        assert figures["finite"] is True
        assert {f"plan_of_{count}_s" for count in REHEARSAL.plans} <= figures.keys()
        assert figures["cached_ratio_to_none"].keys() == {"a step", "plan of 2", "plan of 1"}
    for name in ("planning/flux1", "planning/klein"):
        # Keys that were kept are those that are computed again, up to bfloat16's rounding.
        assert lines[name]["cached_against_recomputed"] < 0.05
    trained = [name for name in lines if name.startswith("training/") and "compiled" not in name]
    assert {"training/flux1", "training/klein", "training/flux1 int8"} <= set(trained)
    for name in trained:
        figures = lines[name]
        # Of offloaded blocks the plan counts three copies, the most that a GPU holds; a CPU holds fewer.
        least = -60 if name.endswith(" GB") else -3
        assert least < figures["memory"]["difference_percent"] < 3, (name, figures["memory"])
        assert figures["example_s"] * figures["examples_of_a_step"] == pytest.approx(figures["step_s"])
    assert lines["training/flux1 int8"]["computed"]["base"] < lines["training/flux1"]["computed"]["base"]
    assert lines["parity"]["grey_levels"]["float32"]["largest"] < 0.1
    for family in ("flux1", "flux2"):
        away = lines["parity"][f"step_{family}"]
        assert len(away) == 2 * len(ways)
        assert all(value < (1e-5 if name.endswith("float32") else 0.05) for name, value in away.items())
    assert 0 < lines["resume after a kill"]["resumed_from"] < REHEARSAL.steps[1]
    assert lines["resume after a kill"]["largest_difference"] == 0
    text = (folder / "summary.txt").read_text()
    assert text.strip() in process.stdout
    assert all(chosen.name in text for chosen in REHEARSED)


def run(tmp_path: Path, *parts, budget: float = 60.0, resume: bool = False) -> tuple[bool, list[dict], list[str]]:
    said: list[str] = []
    results = Results(tmp_path, resume)
    runner = Runner(replace(REHEARSAL, patience=1), results, budget, said.append)
    runner._preload = lambda: None  # what these parts need is loaded
    return runner.run(parts), read_results(results.file), said


def test_parts_that_fail_leave_the_others(tmp_path: Path) -> None:
    bad = [part(name, limit=1.0 if name == "too_slow" else 30.0) for name in BAD]
    complete, lines, _ = run(tmp_path, part("fine", value=1), *bad, replace(part("fine", value=2), name="fine too"))
    assert not complete
    first, *failed, last = lines
    assert (first["status"], first["figures"]["value"]) == ("done", 1)
    assert (last["status"], last["figures"]["value"]) == ("done", 2)
    assert {line["part"]: (line["status"], line["error"], line["figures"]["reached"]) for line in failed} == BAD


def test_resume_runs_what_is_not_finished(tmp_path: Path) -> None:
    complete, lines, _ = run(tmp_path, part("fine", value=1), part("throws"))
    assert not complete
    assert [line["status"] for line in lines] == ["done", "failed"]
    with (tmp_path / "results.jsonl").open("a") as file:
        file.write('{"part": "half written')
    complete, lines, said = run(tmp_path, part("fine", value=2), part("throws"), resume=True)
    assert not complete
    assert [(line["part"], line["status"]) for line in lines] == [
        ("fine", "done"),
        ("throws", "failed"),
        ("throws", "failed"),
    ]
    assert lines[0]["figures"]["value"] == 1
    assert "fine: already there" in said
    assert all(json.loads(text) for text in (tmp_path / "results.jsonl").read_text().splitlines())


def test_earlier_results_are_set_aside(tmp_path: Path) -> None:
    for value in (1, 2, 3):
        run(tmp_path, part("fine", value=value))
    values = {file.name: read_results(file)[0]["figures"]["value"] for file in tmp_path.glob("results*.jsonl")}
    assert values == {"results.1.jsonl": 1, "results.2.jsonl": 2, "results.jsonl": 3}


def test_a_budget_ends_the_part_that_runs_and_the_others_do_not_start(tmp_path: Path) -> None:
    complete, lines, _ = run(tmp_path, part("too_slow"), part("fine", least=5.0), budget=2.0)
    assert not complete
    assert [line["status"] for line in lines] == ["timed out", "no time left"]
    assert lines[0]["figures"] == {"reached": 3}


def test_nothing_runs_without_a_required_part(tmp_path: Path) -> None:
    assert run(tmp_path, part("throws", required=True), part("fine"))[:2][0] is False
    assert [line["part"] for line in read_results(tmp_path / "results.jsonl")] == ["throws"]


def test_where_forked_processes_cannot_use_the_gpu_they_are_started_from_scratch(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "tests")]))
    complete, lines, said = run(tmp_path, part("poisoned", required=True), part("fine"))
    assert complete
    assert [line["status"] for line in lines] == ["done", "done"]
    assert lines[0]["figures"] == {"started": "afresh"}
    assert any("from scratch" in text for text in said)


def test_what_bitsandbytes_asks_while_it_is_imported_leaves_the_gpu_alone(tmp_path: Path, monkeypatch) -> None:
    specs = pytest.importorskip("bitsandbytes.cuda_specs")
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 9.0\n", encoding="utf-8")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)

    def touched() -> None:
        raise AssertionError("CUDA was initialized")

    for name, value in {"is_available": lambda: True, "device_count": lambda: 1, "_lazy_init": touched}.items():
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(specs, "get_cuda_version_tuple", lambda: (13, 0))
    with pytest.raises(AssertionError, match="CUDA was initialized"):
        torch.cuda.get_device_capability()
    with gpu_asked_of_the_driver():
        assert specs.get_cuda_specs().highest_compute_capability == (9, 0)
    with pytest.raises(AssertionError, match="CUDA was initialized"):
        torch.cuda.get_device_capability()
    tool.write_text("#!/bin/sh\nexit 9\n", encoding="utf-8")
    with gpu_asked_of_the_driver(), pytest.raises(AssertionError, match="CUDA was initialized"):
        torch.cuda.get_device_capability()


def test_processes_of_a_part_end_with_it(tmp_path: Path) -> None:
    _, lines, _ = run(tmp_path, part("starts_others", limit=3.0))
    other = Path(f"/proc/{lines[0]['figures']['other']}/cmdline")
    assert lines[0]["status"] == "timed out"
    assert not other.exists() or b"time.sleep(600)" not in other.read_bytes()


def test_parts_are_chosen_by_how_their_names_begin(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(Runner, "_preload", lambda runner: None)
    options = gpu_parser().parse_args(["--rehearse", "--only", "fi", "--out", str(tmp_path)])
    parts = (part("fine", required=True), part("throws"))
    assert run_gpu(options, parts) == 0
    options.only = "fine"
    assert run_gpu(options, (*parts, replace(part("throws"), name="fine and more"))) == 0
    options.only = "speed"
    with pytest.raises(LauncherError, match="--only must name parts .*, got 'speed'"):
        run_gpu(options, parts)


def test_options_of_one_benchmark_are_refused_for_another() -> None:
    parse = build_parser().parse_args
    with pytest.raises(LauncherError, match="--rehearse must be given to bench gpu, got bench training"):
        require_own_options(parse(["bench", "training", "--rehearse"]))
    with pytest.raises(LauncherError, match="--repeats must be given to the other benchmarks, got bench gpu"):
        require_own_options(parse(["bench", "gpu", "--repeats", "2"]))
    require_own_options(parse(["bench", "gpu", "--rehearse", "--budget", "30"]))
    require_own_options(parse(["bench", "--repeats", "2"]))


def test_operations_are_those_of_the_page() -> None:
    flux, klein = Shape(3072, 57, 12), Shape(3072, 25, 13)
    assert flux.linear(1) / 1e9 == pytest.approx(12.91, abs=0.01)
    assert klein.linear(1) / 1e9 == pytest.approx(6.13, abs=0.01)
    table = {
        "none": (48.7, 22.9),
        "first_cell_cached": (49.4, 23.2),
        "first_cell": (54.0, 25.3),
        "full_grid": (100.8, 47.0),
    }
    for way, (of_flux, of_klein) in table.items():
        tokens = tokens_of(way, 2700, 2700 if way == "full_grid" else 300, 512)
        assert flux.forward(*tokens) / 1e12 == pytest.approx(of_flux, abs=0.05)
        assert klein.forward(*tokens) / 1e12 == pytest.approx(of_klein, abs=0.05)
    assert training_step(flux, 3512, 0.0, False) < training_step(flux, 3512, 0.0, True)
    page = (ROOT / "docs" / "benchmarks" / "gpu.md").read_text(encoding="utf-8")
    for row, place in (("FLUX.1-dev", 0), ("FLUX.2-klein-4B", 1)):
        values = [str(pair[place]) for pair in table.values()]
        (line,) = [text for text in page.splitlines() if text.startswith(f"| {row} |")]
        assert all(f" {value} " in line for value in values), line


def test_a_gpu_is_found_by_its_name() -> None:
    assert peak_of("NVIDIA H100 80GB HBM3")[0] == 989.4
    assert peak_of("NVIDIA H100 PCIe")[0] == 756
    assert peak_of("NVIDIA A100-SXM4-80GB")[0] == 312
    assert peak_of("NVIDIA GeForce RTX 4090")[0] == 165.2
    assert peak_of("NVIDIA GeForce RTX 4070 Ti") is None
    assert peak_of("NVIDIA Imaginary 9000") is None


def test_the_summary_has_room_for_parts_that_measured_nothing() -> None:
    text = summary([{"part": "planning/flux1", "status": "failed", "seconds": 1.0, "error": "no", "figures": {}}])
    assert "planning/flux1" in text
    assert "failed" in text


@pytest.mark.skipif(not has_shipped_planner(), reason="the shipped planner's weights are not here")
def test_a_prepared_training_goes_on_until_it_is_exported(tmp_path: Path) -> None:
    from benchmarks.gpu.parts.resume import prepare_pairs
    from benchmarks.gpu.runs import prepare_runs
    from training.sections.config import load_config, save_config

    prepare_pairs(str(tmp_path / "made"), "cpu")
    shutil.copytree(ROOT / "models" / "tiny_planner", tmp_path / "made" / "planner")
    config = load_config(tmp_path / "made" / "base.yaml", [f"train.base={tmp_path / 'made' / 'planner'}"])
    save_config(config, tmp_path / "one.yaml")
    (folder,) = prepare_runs(tmp_path / "one.yaml", tmp_path / "runs")
    assert folder == tmp_path / "runs" / "one"
    shutil.rmtree(tmp_path / "made")  # everything travels in the folder of the runs

    def trained(steps: int, limit: float) -> dict:
        train = config.train.model_copy(update={"max_steps": steps})
        save_config(config.model_copy(update={"train": train}), folder / "config.yaml")
        (chosen,) = runs(tmp_path / "runs")
        return run(tmp_path, replace(chosen, limit=limit, least=0), resume=True)[1][-1]

    first = trained(10_000, 18.0)
    assert first["status"] == "unfinished", first
    step = first["figures"]["step"]
    assert 0 < step < 10_000
    second = trained(step + 1, 60.0)
    assert second["status"] == "done", second
    assert (second["figures"]["resumed_at"], second["figures"]["step"]) == (step, step + 1)
    assert (folder / "planner.safetensors").is_file()
    assert runs(tmp_path) == ()

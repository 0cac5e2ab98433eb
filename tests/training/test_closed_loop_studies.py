"""Studies: figures follow their definitions, a command writes results, plot and page, a sweep keeps what is done."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file

from simulation.camera import FRONT
from simulation.tasks import TASKS, draw_task
from support.small_world import config_for
from training.__main__ import main
from training.errors import TrainingError
from training.evaluation.closed_loop.requests import draw
from training.evaluation.closed_loop.trial import remaining
from training.evaluation.studies import (
    ablation,
    attention,
    best_of,
    conflict,
    failure_detection,
    horizon,
    steps,
    sweep,
    sweep_page,
)
from training.evaluation.studies.attention import AttentionMaps, even_shares, summary, token_frames
from training.evaluation.studies.command import CONFIGS, STUDIES
from training.evaluation.studies.conflict import other_task, with_path_of
from training.evaluation.studies.failure_detection import analyse, auc, youden
from training.planner.export import export
from training.planner.train import train
from training.sections.config import load_config, save_config
from visual_planner.execution.camera import View
from visual_planner.execution.readout import ReadoutNet, ReadoutSpec
from visual_planner.grid.layout import GridLayout
from visual_planner.planner.spec import PlannerSpec
from worlds.errors import WorldError
from worlds.registry import open_world

SCENES = ["scenes=2", "first_seed=9000100", "modes=[text]"]


@pytest.fixture(scope="module", autouse=True)
def rendering():
    try:
        with open_world("jaco", 32) as world:
            yield world
    except WorldError as error:
        pytest.skip(f"NO RENDERING TEST HAS RUN: {error}")


@pytest.fixture(scope="module")
def places(world, tmp_path_factory):
    """--set arguments that name a random planner and a random read-out."""
    config = config_for(world, max_steps=1, out=world / "studies_run")
    config.export.out = world / "studies.safetensors"
    train(config)
    export(config)
    readout = tmp_path_factory.mktemp("readout")
    torch.manual_seed(0)
    view = View(FRONT.eye, FRONT.rays(32, 32))
    spec = ReadoutSpec(height=32, width=32, channels=(8, 8), points=4, view=view, mean=(0.5, 0.4, 1.0))
    save_file(ReadoutNet(spec).state_dict(), readout / "readout.safetensors", metadata=spec.to_metadata())
    return [f"planner={world / 'base'}", f"lora={config.export.out}", f"readout={readout}"]


def study(name, out, *settings, config=None):
    arguments = [part for setting in settings for part in ("--set", setting)]
    if config is not None:
        arguments += ["--config", str(config)]
    return main(["study", name, "--out", str(out), *arguments])


def test_every_study_has_its_settings():
    names = {file.stem for file in CONFIGS.glob("*.yaml")}
    assert set(STUDIES) <= names and len(names) >= 11


def test_auc_is_the_chance_to_rank_right():
    rng = np.random.default_rng(0)
    failed = rng.random(60) < 0.4
    assert auc(failed.astype(float), failed) == 1.0 and auc(-failed.astype(float), failed) == 0.0
    assert auc(np.zeros(60), failed) == 0.5
    values = rng.normal(size=60) + failed
    pairs = [(b > g) + 0.5 * (b == g) for b in values[failed] for g in values[~failed]]
    assert auc(values, failed) == pytest.approx(np.mean(pairs))
    assert np.isnan(auc(values, np.zeros(60, bool)))


def test_the_threshold_parts_what_can_be_parted():
    failed = np.array([False] * 5 + [True] * 5)
    assert 4 < youden(np.arange(10.0), failed) < 5


def test_checks_are_judged_on_other_scenes_than_their_threshold():
    rows = [
        {"seed": seed, "failed": seed % 4 >= 2, "values": {"static": 0.001 if seed % 4 >= 2 else 0.2, "seams": 0.01}}
        for seed in range(80)
    ]
    found = analyse(rows)
    static = found["static"]
    assert static["auc"] == 1.0 and static["bad_is"] == "low" and 0.001 < static["threshold_from_data"] < 0.2
    assert static["shipped"]["precision"]["rate"] == static["shipped"]["recall"]["rate"] == 1.0
    assert static["from_data"]["recall"] == {**static["from_data"]["recall"], "successes": 20, "n": 20}
    assert found["seams"]["auc"] == 0.5 and found["seams"]["shipped"]["precision"]["n"] == 0
    with pytest.raises(TrainingError, match="of 80 plans all fail: nothing to predict"):
        analyse([{**row, "failed": True} for row in rows])


def test_a_vanished_object_is_seen():
    frames = np.full((9, 32, 32, 3), 190, np.uint8)
    frames[:, 4:10, 4:10] = (219, 13, 15)
    frames[:, 20:26, 20:26] = (20, 51, 235)
    assert remaining(frames, ["red", "blue"]) == 1.0
    frames[-1, 20:26, 20:25] = 190
    assert remaining(frames, ["red", "blue"]) == pytest.approx(1 / 6)
    assert remaining(frames, ["red"]) == 1.0


def test_the_other_request_is_about_another_object(rendering):
    found = 0
    for seed in range(9_000_000, 9_000_012):
        asked = draw(rendering, seed, TASKS[seed % 4], "held_out")
        other = other_task(asked)
        if other is None:
            continue
        found += 1
        own = asked.request.own
        assert other.slot != own.task.slot and other.name == own.task.name
        torn = with_path_of(asked, other, rendering)
        assert torn.instruction == asked.instruction and torn.trajectory != asked.trajectory
        if other.name == "reach":
            end = torn.trajectory.paths[0].points[-1]
            place = own.camera.project((*own.scene.objects[other.slot].position_m, 0.135), 32, 32)
            assert np.hypot(end.x - place[0], end.y - place[1]) < 2.0
    assert found >= 4
    assert draw_task(9_000_000, ("reach",))[1].name == "reach"


def test_tokens_know_their_frame():
    frames = token_frames(GridLayout(2, 2), (1, 2))
    assert frames.tolist() == [0, 0, 1, 1, 3, 3, 2, 2]


def test_attention_is_shared_out_over_the_groups():
    spec = PlannerSpec(rows=2, cols=2, cell_height=32, cell_width=32, condition_tokens="first_cell")
    tokens, text, condition = 16, 3, 4
    query = torch.randn(2, 2, text + tokens + condition, 8)
    with AttentionMaps(spec, text, condition) as maps:
        torch.nn.functional.scaled_dot_product_attention(query, query, query)
        part = query[:, :, :5]
        torch.nn.functional.scaled_dot_product_attention(query=part, key=part, value=part)
        torch.nn.functional.scaled_dot_product_attention(query=query, key=query, value=query)
    assert len(maps.maps) == 2 and np.array_equal(*maps.maps) and maps.maps[0].shape == (4, 6)
    np.testing.assert_allclose(maps.maps[0].sum(axis=1), 1.0, atol=1e-5)
    even = AttentionMaps(spec, text, condition)._map(query[:, :, :tokens] * 0, query)
    np.testing.assert_allclose(even, [[4 / 23] * 5 + [3 / 23]] * 4, atol=1e-6)
    parts = summary(np.stack(maps.maps)[None], spec.layout)["by_layer"]
    assert np.sum(list(parts.values()), axis=0) == pytest.approx([1.0, 1.0], abs=1e-3)
    shares = even_shares(maps.columns.sum(dim=0).numpy(), spec.layout)  # of 2x2 in serpentine 1 and 4 only touch
    frames = {"own frame": 4, "neighbours in time": 6, "neighbours in the grid only": 2, "other frames": 4}
    expected = {name: count / 4 * 4 / 23 for name, count in frames.items()} | {"condition": 4 / 23, "text": 3 / 23}
    assert shares == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("best_of", ["best_of=2", "replan=4"]),
        ("ablation", []),
        ("conflict", ["guidance=[1.0, 3.0]", "scenes=6"]),
        ("horizon", ["plans=[1, 2]"]),
        ("steps", ["steps=[2, 1]", "scenes=3"]),
        ("attention", []),
    ],
)
def test_a_study_writes_results_plot_and_page(name, more, places, tmp_path, capsys):
    scenes = [setting for setting in SCENES if not (name == "conflict" and setting.startswith("modes"))]
    assert study(name, tmp_path / "out", *places, *scenes, *more) == 0
    result = json.loads((tmp_path / "out" / "results.json").read_text())
    assert result["study"] == name and result["settings"]["first_seed"] == 9000100
    page = (tmp_path / "out" / "page.md").read_text()
    assert page.startswith("# ") and "(page.png)" in page and "## Method" in page and "## Limits" in page
    assert (tmp_path / "out" / "page.png").stat().st_size > 5000
    assert page in capsys.readouterr().out
    before = (tmp_path / "out" / "results.json").read_bytes()
    shown = tmp_path / "docs" / "name.md"
    assert main(["study", name, "--out", str(tmp_path / "out"), "--plot-only", "--page", str(shown)]) == 0
    assert "(name.png)" in shown.read_text() and shown.with_suffix(".png").is_file()
    assert (tmp_path / "out" / "results.json").read_bytes() == before


class Knowing:
    """Stands for a planner that knows goal pictures."""

    class spec:
        modes = ("both", "both_goal")

        class layout:
            frames = 9


def test_filled_plans_lead_from_frame_to_frame_of_the_first(rendering, monkeypatch):
    asked, calls = [draw(rendering, 9_000_100, "pick")], []

    def made(planner, now, mode, *_):
        calls.append((mode, now[0].first.flat[0], now[0].truth[-1].flat[0], now[0].seed))
        values = range(9) if mode == "both" else [50 + len(calls)] * 9
        return [np.stack([np.full((64, 64, 3), value, np.uint8) for value in values])[None]]

    monkeypatch.setattr(horizon, "make_plans", made)
    (joined,) = horizon.fill(Knowing, asked, "both", 2, 4)
    assert list(joined[:, 0, 0, 0]) == [52] * 8 + [4] + [53] * 7 + [8]
    seed = asked[0].seed
    assert calls[1:] == [("both_goal", 0, 4, seed), ("both_goal", 4, 8, seed + 1)]
    assert horizon.can_fill(Knowing, "both", 2) and horizon.can_fill(Knowing, "both", 4)
    assert not any(horizon.can_fill(Knowing, mode, count) for mode, count in (("both", 1), ("both", 3), ("text", 2)))


def test_steps_are_compared_on_the_same_scenes(rendering):
    asked = [draw(rendering, 9_000_100 + number, "pick") for number in range(4)]
    most = [{"success": True, "sound": True, "ssim": 0.9, "colour": True, "seconds": 2.0}] * 4
    fewer = [{**most[0], "success": number != 1, "ssim": 0.5, "colour": False, "seconds": 0.5} for number in range(4)]
    fewer[3] = {name: value for name, value in fewer[3].items() if name != "colour"}  # nothing is held there
    row = steps.summary(fewer, most, asked)
    assert (row["success"]["successes"], row["success_change"]["difference"]) == (3, -0.25)
    assert (row["colour_kept"]["n"], row["colour_change"]["difference"]) == (3, -1.0)
    assert row["ssim_change"]["high"] == pytest.approx(-0.4) and (row["seconds"], row["of_most"]) == (0.5, 0.25)
    assert steps.verdict(row["success_change"], "8 steps") == "no difference from 8 steps that these scenes could tell"
    assert steps.verdict(row["colour_change"], "8 steps") == "less than with 8 steps"
    assert "colour_kept" not in steps.summary(fewer[3:], most[3:], asked[3:])


def test_failure_detection_needs_both_kinds(places, tmp_path, capsys):
    """A random planner only fails; the study says so instead of making figures up."""
    assert study("failure_detection", tmp_path, *places, *SCENES) == 2
    assert "2 plans all fail: nothing to predict" in capsys.readouterr().err
    assert not (tmp_path / "results.json").exists()


def test_failure_detection_reads_a_saved_closed_loop(tmp_path):
    """Its plans are judged, with its settings on the page, and none is made."""
    plans = [
        {"success": number % 2 == 0, "checks": {"static": 0.2}, "objects_left": 1.0, "score": 0.5,
         "parts": {"sure": 0.9, "least sure": 0.9 - 0.5 * (number % 2)}}
        for number in range(8)
    ]  # fmt: skip
    rows = [{"seed": number, "task": "reach", "plans": [plan]} for number, plan in enumerate(plans)]
    settings = {"modes": ["text"], "first_seed": 77, "scenes": 8, "wordings": "train", "camera_jitter_m": 0.02}
    file = tmp_path / "closed_loop.json"
    file.write_text(json.dumps({"planner": "models/mine", "settings": settings, "plans": {"text": rows}}))
    assert study("failure_detection", tmp_path / "out", f"closed_loop_file={file}") == 0
    result = json.loads((tmp_path / "out" / "results.json").read_text())
    assert len(result["rows"]) == 8 and result["checks"]["least sure"]["auc"] == 1.0
    assert result["checks"]["sure"]["auc"] == 0.5 and "path as read" not in result["checks"]
    page = (tmp_path / "out" / "page.md").read_text()
    assert "8 scenes per mode, seeds from 77" in page and "Planner `mine`" in page and "0.02 m" in page


def test_a_sweep_trains_each_variant_once(world, places, tmp_path, capsys):
    save_config(config_for(world, max_steps=2), tmp_path / "training.yaml")
    config = tmp_path / "sweep.yaml"
    text = {"title": "T", "question": "Q", "limits": "L", "training": str(tmp_path / "training.yaml"), "axis": "steps"}
    text |= {
        "changes": {"train.seed": 5},
        "variants": {"one": {"x": 1, "changes": {"train.max_steps": 1}}, "two": {"x": 2}},
    }
    config.write_text(json.dumps(text))
    settings = [*SCENES, *(place for place in places if not place.startswith("lora"))]
    assert study("sweep", tmp_path / "out", *settings, config=config) == 0
    result = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [row["success"]["text"]["n"] for row in result["variants"].values()] == [2, 2]
    assert result["variants"]["one"]["baselines"]["static"]["successes"] == 0
    run = yaml.safe_load((tmp_path / "out" / "one" / "run" / "config.yaml").read_text())
    assert (run["train"]["seed"], run["train"]["max_steps"]) == (5, 1)
    one, two = (result["variants"][name] for name in ("one", "two"))
    assert two["hand_error_mm"]["text"]["mean"] == np.mean([row["hand_error_mm"] for row in two["scenes"]["text"]])
    page = (tmp_path / "out" / "page.md").read_text()
    assert "Differences from *one*" in page and "**all**: `train.seed: 5`" in page
    gain = sweep_page.against(two, one, "text")["hand_error_mm"]
    means = [row["hand_error_mm"]["text"]["mean"] for row in (two, one)]
    assert gain["difference"] == pytest.approx(means[0] - means[1]) and gain["low"] <= gain["high"]
    assert sweep_page.against({"scenes": {"text": two["scenes"]["text"][:1]}}, one, "text") is None
    files = {name: tmp_path / "out" / name / "planner.safetensors" for name in ("one", "two")}
    times = {name: file.stat().st_mtime_ns for name, file in files.items()}
    (tmp_path / "out" / "two" / "closed_loop.json").unlink()
    assert study("sweep", tmp_path / "out", *settings, config=config) == 0
    assert {name: file.stat().st_mtime_ns for name, file in files.items()} == times
    (tmp_path / "out" / "two" / "closed_loop.json").unlink()
    files["two"].unlink()  # stopped after its training: pairs, cache and run are taken as they are
    assert study("sweep", tmp_path / "out", *settings, config=config) == 0
    assert json.loads((tmp_path / "out" / "results.json").read_text())["variants"] == result["variants"]
    text["variants"]["two"].pop("x")
    config.write_text(json.dumps(text))
    assert study("sweep", tmp_path / "other", *settings, config=config) == 2
    assert "all must have x, or none of them" in capsys.readouterr().err


def test_each_variant_of_a_sweep_is_trained_once_with_each_seed(world, places, tmp_path):
    save_config(config_for(world, max_steps=1), tmp_path / "training.yaml")
    text = {"title": "T", "question": "Q", "limits": "L", "training": str(tmp_path / "training.yaml")}
    text |= {"seeds": [5, 6], "compare_loss": True, "variants": {"one": {}, "two": {"changes": {"train.max_steps": 2}}}}
    text["changes"] = {"train.log_every": 1}
    config, out = tmp_path / "sweep.yaml", tmp_path / "out"
    config.write_text(json.dumps(text))
    settings = [*SCENES, *(place for place in places if not place.startswith("lora"))]
    assert study("sweep", out, *settings, config=config) == 0
    read = {file.parent.parent.name: yaml.safe_load(file.read_text()) for file in out.glob("*/run/config.yaml")}
    assert {name: made["train"]["seed"] for name, made in read.items()} == {
        f"{name}, seed {seed}": seed for name in ("one", "two") for seed in (5, 6)
    }
    assert {made["train"]["cache"] for made in read.values()} == {
        str(out / f"{name}, seed 5" / "cache") for name in ("one", "two")
    }  # a variant's runs share one cache
    page = (out / "page.md").read_text()
    assert "| one, run 1 | 0/2" in page and "| two, run 2 | 0/2" in page and "`train.seed` 5, 6" in page
    assert "**Answer:** it cannot be told" in page
    made = json.loads((out / "results.json").read_text())["variants"]["two"]
    own = [json.loads((out / f"two, seed {seed}" / "closed_loop.json").read_text()) for seed in (5, 6)]
    assert made["success"]["text"]["n"] == 4 and [len(made["runs"]), len(made["scenes"]["text"])] == [2, 2]
    for place, scene in enumerate(made["scenes"]["text"]):
        assert scene["hand_error_mm"] == np.mean([row["scenes"]["text"][place]["hand_error_mm"] for row in own])


def test_a_sweep_concludes_what_intervals_and_runs_allow():
    def row(*runs):
        means = np.mean(runs, axis=0)
        scenes = [{"seed": place, "success": mean, "hand_error_mm": 1.0} for place, mean in enumerate(means)]
        success = [{"text": {"rate": float(np.mean(done))}} for done in runs]
        return {"success": {"text": {"rate": float(means.mean())}}, "runs": success, "scenes": {"text": scenes}}

    half, full, none = [1] * 10 + [0] * 10, [1] * 20, [0] * 20
    variants = {"base": (half, half), "better": (full, full), "worse": (none, none), "torn": (full, none)}
    variants = {name: row(*runs) for name, runs in variants.items()}
    lines = sweep_page.answer(variants, ["text"]).splitlines()
    assert lines[0] == "**Answer:** compared with *base*"
    assert [line.split(" (")[0] for line in lines[1:]] == [
        "- more requests succeed: *better*",
        "- fewer requests succeed: *worse*",
        "- no difference that could be told: *torn*",
    ]
    once = row(full, half)  # better on the whole, but only one of its runs is
    told = sweep_page.answer({"base": row(half, half), "once": once}, ["text"])
    assert "no difference that could be told: *once* (text +25% (+" in told
    start = {"success": {"text": {"rate": 0.5}}, "scenes": variants["base"]["scenes"]}  # not trained: it has one run
    told = sweep_page.answer({"start": start, "better": row(full, full), "torn": row(half, full)}, ["text"])
    assert "- more requests succeed: *better*" in told and "- no difference that could be told: *torn*" in told
    assert "not even the best variant (base)" in sweep_page.answer({"base": row(none, none)}, ["text"])
    elsewhere = row(half, half)
    elsewhere["scenes"] = {"text": elsewhere["scenes"]["text"][::-1]}
    assert "each rate stands for itself" in sweep_page.answer({"base": row(half, half), "other": elsewhere}, ["text"])


def test_studies_answer_what_their_intervals_tell():
    few, some, many = ({"low": low, "high": low + 0.2} for low in (0.0, 0.15, 0.6))
    modes = {"text": {"nothing": many, "sentence": few, "LoRA": few}}
    modes["both"] = {"nothing": some, "sentence": few, "path": many}
    assert ablation.answer(modes) == (
        "**Answer:** fewer plans succeed without the sentence (text), the LoRA (text); more plans succeed without the "
        "path (both); it cannot be told of the sentence (both)."
    )
    guidance = {"1.0": {"text": few, "trajectory": many}, "2.0": {"text": many, "trajectory": few}}
    guidance["3.5"] = {"text": few, "trajectory": some}
    assert conflict.answer(guidance) == (
        "**Answer:** the drawn path wins at guidance 1.0; the instruction wins at guidance 2.0; it cannot be told "
        "which wins at guidance 3.5."
    )
    checks = {"a": {"auc": 0.6, "auc_low": 0.4}, "b": {"auc": 0.7, "auc_low": 0.6}, "c": {"auc": 0.9, "auc_low": 0.8}}
    assert failure_detection.answer(checks) == (
        "**Answer:** a failure is predicted, best first, by *c* (0.90), *b* (0.70); of the others it cannot be told "
        "(a)."
    )
    assert "of no check could it be told" in failure_detection.answer({"a": checks["a"]})
    chains = {"1": {"frames": 9, "modes": {"text": {"success": many}, "both": {"success": some}}}}
    assert "only one length" in horizon.answer(chains)
    longer = {"text": {"success": few, "filled": many}, "both": {"success": few}}
    assert horizon.answer(chains | {"2": {"frames": 17, "modes": longer}}) == (
        "**Answer:** compared with 9 frames, plans succeed chained over 17 frames less often (text), with no "
        "difference that could be told (both); filled in over 17 frames with no difference that could be told (text)."
    )
    shares = {"own frame": [0.4, 0.6], "text": [0.1], "other frames": [0.1]}
    even = {"own frame": 0.1, "text": 0.1, "other frames": 0.4, "nobody": 0.0}
    told = attention.answer({"modes": {"text": {"by_step": shares}}, "even": even})
    assert "clearly more than evenly to own frame (5.0 times), and clearly less to other frames (0.2 times)" in told


def test_the_chosen_plan_is_compared_with_one_at_random():
    def row(chosen, *plans):
        return {"success": chosen, "plans": [{"success": success} for success in plans]}

    plans = {
        "text": [row(True, True, False, True, True), row(False, False, False, False, False)],
        "both": [row(True, False, True, False, False), row(True, True, True, True, True)],
    }
    result = best_of.with_choice({"text": {"best": 1}, "both": {"best": 2}}, plans)
    assert result["text"]["best"] == 1 and result["text"]["single"]["rate"] == 0.375
    assert result["text"]["best_gain"]["difference"] == 0.125 and result["both"]["best_gain"]["difference"] == 0.375
    assert result["text"]["any"]["rate"] == 0.5 and result["both"]["any"]["rate"] == 1.0
    assert result["best_gain_over_modes"]["difference"] == 0.25  # (1/4 + 3/4) / 2 and nothing, over two scenes
    assert result["best_gain_over_modes"]["low"] == 0.0 and result["best_gain_over_modes"]["high"] == 0.5


def test_the_scenes_of_few_training_episodes_come_again_with_other_noise(world, rendering, tmp_path):
    config = config_for(world)
    source = config.prepare.source = Path(shutil.copytree(world / "episodes", tmp_path / "episodes"))
    records = [json.loads(line) for line in (source / "episodes.jsonl").read_text().splitlines()]
    turned = FRONT.turned(30)
    lines = [json.dumps(record | {"camera": turned.to_json()}) for record in records]
    (source / "episodes.jsonl").write_text("\n".join(lines) + "\n")
    settings = {
        "title": "T",
        "question": "Q",
        "limits": "L",
        "training": "t.yaml",
        "variants": {"own": {}},
        "scenes": 6,
    }
    own = sweep.Variant(scenes="training")
    asked = sweep.requests(sweep.SweepSettings.model_validate(settings), own, config, rendering, config.planner_spec())
    assert [item.seed for item in asked] == [0, 1, 2, 3, 1, 2]  # four episodes are trained on, of seeds 0 to 3
    assert asked[4].request == asked[0].request and np.array_equal(asked[4].first, asked[0].first)
    assert {item.task for item in asked} == {"push"} and {item.request.own.camera for item in asked} == {turned}


def test_variants_that_differ_in_scenes_alone_share_a_planner(monkeypatch, tmp_path):
    """One training, judged on both kinds of scenes."""
    trained, judged = [], []

    def judge(settings, variant, config, lora):
        judged.append((variant.scenes, lora.parent.name))
        return {"success": {}}

    monkeypatch.setattr(sweep, "train_variant", lambda config, name: trained.append(config.section("train").out))
    monkeypatch.setattr(sweep, "execute", judge)
    few = {"prepare.episodes": 2, "prepare.validation_episodes": 1}
    start = {"trained": False, "changes": {"train.lora": {"base": str(tmp_path / "shipped" / "start.safetensors")}}}
    variants = {"start": start, "own": {"scenes": "training", "changes": few}, "unseen": {"changes": few}, "more": {}}
    text = {
        "title": "T",
        "question": "Q",
        "limits": "L",
        "training": CONFIGS.parent / "tiny.yaml",
        "variants": variants,
    }
    sweep.measure(sweep.SweepSettings.model_validate(text), tmp_path)
    assert judged == [("unseen", "shipped"), ("training", "own"), ("unseen", "own"), ("unseen", "more")]
    assert [folder.parent.name for folder in trained] == ["own", "own", "more"]  # the second finds the first's


def test_an_untrained_variant_needs_a_planner_to_start_from(tmp_path):
    config = load_config(CONFIGS.parent / "tiny.yaml")
    with pytest.raises(TrainingError, match="variant zero is not trained: train.lora.base must name the planner"):
        sweep.planner_of(sweep.Variant(trained=False), config, "zero")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["secnes=2"], "secnes: unknown key"),
        (["scenes"], "--set must read KEY=VALUE"),
        (["scenes=0"], "scenes: Input"),
    ],
)
def test_wrong_settings_are_one_line(settings, message, tmp_path, capsys):
    assert study("ablation", tmp_path, *settings) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1

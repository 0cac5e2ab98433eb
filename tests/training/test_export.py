"""The exported file: what is in it, what is refused, where it is put."""

import base64
import io
import json

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from support.small_world import config_for
from training.__main__ import main
from training.errors import TrainingError
from training.loop.checkpoints import latest_checkpoint, load_checkpoint
from training.model.key_map import check_loads, comfyui_key_map
from training.model.lora import add_lora, file_tensors, fuse_lora, stack, start_from
from training.planner.export import export, write_lora
from training.planner.train import train
from training.sections.config import save_config
from training.sections.planner import LoraSection
from training.tiny_base.parts import make_transformer
from visual_planner.planner.spec import PlannerSpec


@pytest.fixture(scope="module")
def run(world, tmp_path_factory):
    """A folder with the run of two steps (validated at the start) and its configuration."""
    folder = tmp_path_factory.mktemp("run")
    config = config_for(
        world, out=folder / "lora", max_steps=2, validation={"every": 2, "scenes": 2, "batches": 1}, ema_decay=0.5
    )
    config.export.out = folder / "planner.safetensors"
    train(config)
    return folder, config


def lora_of(transformer, seed=0):
    add_lora(transformer, LoraSection(rank=2, alpha=2, targets="all_linear"))
    generator = torch.Generator().manual_seed(seed)
    weights = {
        n: torch.randn(p.shape, generator=generator) for n, p in transformer.named_parameters() if p.requires_grad
    }
    return file_tensors(weights, LoraSection(rank=2, alpha=2))


def test_the_header_says_what_the_file_is(run):
    folder, config = run
    export(config)
    with safe_open(folder / "planner.safetensors", "pt") as file:
        header = file.metadata()
    assert PlannerSpec.from_metadata(header) == config.planner_spec()
    assert header["modelspec.sai_model_spec"] == "1.0.0"
    assert header["modelspec.architecture"] == "flux-1-dev/lora"
    assert header["visual_planner.steps"] == "2"
    kind, _, picture = header["modelspec.thumbnail"].partition(",")
    assert kind == "data:image/jpeg;base64"
    with Image.open(io.BytesIO(base64.b64decode(picture))) as image:
        assert image.size == (96, 96)


def test_it_holds_the_averaged_weights_unless_told_otherwise(run):
    folder, config = run
    parts, _ = load_checkpoint(latest_checkpoint(folder / "lora"))
    for averaged, part in ((True, "averaged"), (False, "weights")):
        changed = config.model_copy(update={"export": config.export.model_copy(update={"averaged": averaged})})
        export(changed)
        expected = file_tensors(parts[part], config.train.lora)
        got = load_file(folder / "planner.safetensors")
        assert got.keys() == expected.keys()
        assert all(torch.equal(got[name], expected[name]) for name in got)


def test_every_layer_of_a_model_has_its_place_in_comfyui():
    transformer = make_transformer(1, 2, 3)
    layers = [name for name, module in transformer.named_modules() if isinstance(module, torch.nn.Linear)]
    known = comfyui_key_map(2, 3, 128)
    assert {f"transformer.{name}" for name in layers} == known.keys()
    places = list(known.values())
    assert len(set(places)) == len(places)


def test_files_that_comfyui_would_not_load_are_refused():
    transformer = make_transformer(1, 1, 1)
    good = lora_of(make_transformer(1, 1, 1))
    assert check_loads(good, transformer) == len(good) // 2
    name = "transformer.x_embedder.lora_A.weight"
    for change, message in (
        ({"base_model.model." + name: good[name]}, "1 of 61 LoRA tensors have no counterpart in ComfyUI's FLUX model,"),
        ({name.replace("lora_A.weight", "lora_A.planner.weight"): good[name]}, "have no counterpart"),
        ({name: good[name][:, :3]}, "1 of .* do not fit the base model, first 'transformer.x_embedder'"),
        (
            {name: good[name] * float("nan")},
            r"1 of 60 LoRA tensors contain NaN or infinity, first 'transformer\.x_embedder\.lora_A\.weight'",
        ),
    ):
        with pytest.raises(TrainingError, match=message):
            check_loads({**good, **change}, transformer)
    with pytest.raises(TrainingError, match="lack one of their two matrices"):
        check_loads({key: value for key, value in good.items() if key != name}, transformer)
    with pytest.raises(TrainingError, match="has no effect"):
        check_loads({k: v * (".lora_A." in k) for k, v in good.items()}, transformer)


def test_a_file_that_fails_the_check_never_gets_its_name(tmp_path):
    tensors = {"transformer.somewhere.lora_A.weight": torch.ones(2, 2)}
    with pytest.raises(TrainingError, match="have no counterpart"):
        write_lora(tmp_path / "planner.safetensors", tensors, PlannerSpec().to_metadata(), make_transformer(1, 1, 1))
    assert list(tmp_path.iterdir()) == []


def test_two_loras_stacked_do_what_both_do(tmp_path):
    first, second = lora_of(make_transformer(1, 1, 1), 1), lora_of(make_transformer(1, 1, 1), 2)
    del second["transformer.x_embedder.lora_A.weight"], second["transformer.x_embedder.lora_B.weight"]
    torch.manual_seed(0)
    base = make_transformer(1, 1, 1)
    one_by_one, at_once = make_transformer(1, 1, 1), make_transformer(1, 1, 1)
    for model in (one_by_one, at_once):
        model.load_state_dict(base.state_dict())
    for number, tensors in enumerate((first, second)):
        save_file(tensors, tmp_path / f"{number}.safetensors")
        fuse_lora(one_by_one, tmp_path / f"{number}.safetensors")
    save_file(stack(first, second), tmp_path / "both.safetensors")
    fuse_lora(at_once, tmp_path / "both.safetensors")
    changed = 0
    for name, value in one_by_one.state_dict().items():
        assert torch.allclose(value, at_once.state_dict()[name], atol=1e-4), name
        changed += not torch.equal(value, base.state_dict()[name])
    assert changed == len(first) // 2


def test_a_run_on_a_base_lora_exports_both_as_one(run, world, tmp_path):
    folder, config = run
    export(config)
    lora = {**config.train.lora.model_dump(), "base": folder / "planner.safetensors"}
    second = config_for(world, out=tmp_path / "lora", max_steps=1, lora=lora)
    second.export.out = tmp_path / "both.safetensors"
    train(second)
    export(second)
    tensors = load_file(tmp_path / "both.safetensors")
    assert tensors["transformer.x_embedder.lora_A.weight"].shape == (8, 64)
    first = load_file(folder / "planner.safetensors")
    for key, value in first.items():
        part = tensors[key][:4] if ".lora_A." in key else tensors[key][:, :4]
        assert torch.equal(part, value)


def test_an_exported_lora_is_where_another_training_begins(run, world, tmp_path):
    folder, config = run
    export(config)
    lora = {
        **config.train.lora.model_dump(),
        "alpha": 2 * config.train.lora.rank,
        "init": folder / "planner.safetensors",
    }
    still = {"name": "adamw", "learning_rate": 1e-30}
    second = config_for(world, out=tmp_path / "lora", max_steps=1, lora=lora, optimizer=still)
    second.export.out = tmp_path / "again.safetensors"
    train(second)
    export(second)
    first = load_file(folder / "planner.safetensors")
    again = load_file(tmp_path / "again.safetensors")
    assert set(again) == set(first)
    for key, value in first.items():
        assert torch.allclose(again[key], value, atol=1e-20), key
    assert any(value.any() for key, value in first.items() if ".lora_B." in key)


@pytest.mark.parametrize(
    ("section", "has"),
    [
        (
            {"rank": 3, "targets": "all_linear"},
            r"has \d+ layers of rank 2, the configuration has \d+ \(all_linear\) of rank 3",
        ),
        (
            {"rank": 2, "targets": "attention"},
            r"has \d+ layers of rank 2, the configuration has \d+ \(attention\) of rank 2",
        ),
    ],
)
def test_a_lora_of_other_layers_or_rank_is_no_beginning(tmp_path, section, has):
    save_file(lora_of(make_transformer(1, 1, 1)), tmp_path / "lora.safetensors")
    transformer = make_transformer(1, 1, 1)
    wanted = LoraSection(**section, init=tmp_path / "lora.safetensors")
    add_lora(transformer, wanted)
    with pytest.raises(TrainingError, match=has):
        start_from(transformer, wanted)


def test_install_puts_it_into_comfyui_and_nowhere_else(run, tmp_path, capsys):
    folder, config = run
    loras = tmp_path / "ComfyUI" / "models" / "loras"
    loras.mkdir(parents=True)
    save_config(config, tmp_path / "config.yaml")
    arguments = ["export", "--config", str(tmp_path / "config.yaml"), "--install"]
    assert main([*arguments, str(tmp_path / "ComfyUI")]) == 0
    installed = loras / "planner.safetensors"
    assert installed.read_bytes() == (folder / "planner.safetensors").read_bytes()
    assert main([*arguments, str(tmp_path / "ComfyUI")]) == 0  # a planner LoRA of that name is replaced
    save_file({"a": torch.ones(1)}, installed)
    assert main([*arguments, str(tmp_path / "ComfyUI")]) == 2
    assert "exists and is not a planner LoRA" in capsys.readouterr().err
    assert main([*arguments, str(tmp_path)]) == 2
    assert "has no folder models/loras" in capsys.readouterr().err
    assert [path.name for path in loras.iterdir()] == ["planner.safetensors"]


def test_a_thumbnail_that_is_no_picture_is_named(run, tmp_path):
    _, config = run
    (tmp_path / "a.png").write_text("no picture")
    section = config.export.model_copy(update={"thumbnail": tmp_path / "a.png"})
    with pytest.raises(TrainingError, match=r"export\.thumbnail .*a\.png cannot be read"):
        export(config.model_copy(update={"export": section}))


def test_validation_shows_plans_before_the_first_step_and_after(run):
    folder, _ = run
    steps = sorted(path.name for path in (folder / "lora" / "validation").iterdir())
    assert steps == ["00000000", "00000002"]
    pictures = sorted(path.name for path in (folder / "lora" / "validation" / "00000002").iterdir())
    assert pictures == [
        "000004_text_seed0.png", "000004_text_seed0_beside_truth.png",
        "000004_trajectory_seed1.png", "000004_trajectory_seed1_beside_truth.png",
    ]  # fmt: skip
    lines = [json.loads(line) for line in (folder / "lora" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "validation_loss" in line] == [0, 2]
    with Image.open(folder / "lora" / "validation" / "00000002" / pictures[0]) as image:
        assert image.size == (96, 96)
        assert image.text["visual_planner.seed"] == "0"
        assert image.text["visual_planner.training_step"] == "2"

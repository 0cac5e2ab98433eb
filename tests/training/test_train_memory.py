"""The memory plan: counted storages, the same on shapes as on values, and the laws that it must keep."""

from pathlib import Path

import pytest
import torch

from training.__main__ import main
from training.errors import TrainingError
from training.model.in_context import InContext
from training.model.lora import add_lora
from training.planner.memory import PeakMemory, base_shapes, memory_plan, step_peak
from training.planner.objective import Batch
from training.sections.config import load_config
from training.sections.planner import LoraSection, TrainSection, VaeSection
from training.tiny_base.parts import make_transformer
from training.tiny_base.vae import make_vae
from visual_planner.planner.spec import PlannerSpec

SPEC = PlannerSpec(cell_height=32, cell_width=32, condition_tokens="first_cell")
WIDEST = 98_304
"""Numbers in the largest matrix of the transformer of `plan`."""
CONFIGS = Path(__file__).parents[2] / "training" / "configs"


def section(**values):
    lora = {"rank": 4, "alpha": 4}
    return TrainSection.model_validate({"base": "none", "cache": "none", "out": "none", "base_dtype": "float32",
                                        "lora": lora, **values})  # fmt: skip


def plan(double=1, single=2, **values):
    with torch.device("meta"):
        transformer = make_transformer(1, double, single)
    return memory_plan(section(**values), SPEC, 5, transformer)


def test_storages_count_while_they_live():
    counter = PeakMemory()
    with counter:
        first, second = torch.empty(1000), torch.empty(500)
        del first
        third = torch.empty(100)
        view = second[:10]
        del second  # its storage lives on in the view
    assert counter.peak == 6000
    assert counter.now == 2400
    assert view.shape == (10,)
    assert third.shape == (100,)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_shapes_give_the_peak_that_values_give(checkpointing):
    """The same step on the CPU, with real numbers."""
    peaks = []
    for device in ("cpu", "meta"):
        with torch.device(device):
            transformer = make_transformer(1, 1, 1)
            add_lora(transformer, LoraSection(rank=4, alpha=4))
            batch = Batch(
                torch.zeros(2, 16, 12, 12), torch.zeros(2, 16, 4, 4), torch.zeros(2, 5, 128), torch.zeros(2, 64)
            )
        if checkpointing:
            transformer.enable_gradient_checkpointing()
        peaks.append(step_peak(transformer, InContext(SPEC, device), batch, section(batch_size=2)))
    assert peaks[0] == pytest.approx(peaks[1], rel=0.02)
    assert peaks[0] > 1_000_000


def test_decoded_frames_need_the_decoder_and_its_activations(tmp_path):
    vae = make_vae(VaeSection(source=["none"], out="none", channels=(32, 32, 32, 32)))
    given = {"base": tmp_path, "batch_size": 2, "objective": {"decoded_weight": 1.0}}
    with pytest.raises(TrainingError, match=r"decoded_weight needs the base's autoencoder, but .* has no config\.json"):
        plan(**given)
    vae.save_pretrained(tmp_path / "vae")
    plain, decoded = plan(batch_size=2), plan(**given)
    assert decoded.base - plain.base == sum(p.nbytes for p in vae.parameters())
    assert decoded.activations > plain.activations


def test_a_plan_keeps_the_laws():
    whole, deeper, larger = plan(), plan(double=2, single=4), plan(batch_size=2)
    assert deeper.activations > 1.7 * whole.activations
    assert larger.activations > 1.8 * whole.activations
    assert plan(double=2, single=4, gradient_checkpointing=True).activations < 0.6 * deeper.activations
    assert whole.tokens == (36, 4, 5)
    assert whole.optimizer == 2 * whole.adapter == 8 * whole.trained
    assert (whole.averaged, plan(ema_decay=0.9).averaged) == (0, whole.adapter)
    packed = [plan(quantize=form).base for form in ("none", "int8", "nf4")]
    assert packed[0] > 2 * packed[1] > 2.5 * packed[2]
    assert plan(quantize="fp8").base == packed[1]
    weighted = plan(objective={"motion_weight": 1.0, "end_effector_weight": 5.0})
    assert whole.activations <= weighted.activations < 1.1 * whole.activations
    # Packed layers unpack one matrix at a time, in the type of the products.
    short = {"base_dtype": "bfloat16", "mixed_precision": "bf16"}
    plain, *unpacked = (
        plan(quantize=form, gradient_checkpointing=True, **short).activations for form in ("none", "int8", "fp8")
    )
    assert all(activations < plain + 2 * WIDEST for activations in unpacked)


def test_flux_has_twelve_billion_weights():
    """Shapes without a folder are those of FLUX.1-dev: 11.90 billion numbers."""
    assert sum(p.numel() for p in base_shapes(section(), PlannerSpec()).parameters()) == 11_901_408_320


def test_the_command_prints_every_part(capsys, tmp_path):
    tiny = CONFIGS / "tiny.yaml"
    assert main(["memory", "--config", str(tiny), "--set", "cache.text_tokens=24"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "tokens per example: 144 noise + 16 condition + 24 text"
    assert [line.split()[0] for line in lines[2:]] == [
        "base", "adapter", "gradients", "optimizer", "averaged", "activations", "validation", "overhead", "total",
    ]  # fmt: skip
    assert main(["memory", "--config", str(tiny)]) == 2
    assert "cache.text_tokens must be more than 0" in capsys.readouterr().err


@pytest.mark.parametrize(("gigabytes", "base", "total"), [(8, 1.05, 4.91), (12, 3.79, 7.67), (24, 7.22, 17.23)])
def test_the_recipes_for_klein_fit_and_take_what_the_page_says(gigabytes, base, total):
    config = load_config(CONFIGS / f"klein_{gigabytes}gb.yaml")
    whole = memory_plan(config.train, config.planner_spec(), config.cache.text_tokens)
    assert whole.tokens == (2700, 300, 512)
    assert whole.base / 2**30 == pytest.approx(base, abs=0.01)
    assert whole.total == pytest.approx(total, abs=0.05)
    assert whole.total < gigabytes - 2


def test_the_recipe_of_24_gb_fits_its_card():
    config = load_config(CONFIGS / "flux_dev_24gb.yaml")
    whole = memory_plan(config.train, config.planner_spec(), config.cache.text_tokens)
    assert whole.tokens == (2700, 300, 512)
    assert whole.trained == 358_612_992
    # one byte for each number of the blocks' matrices, two for the rest
    assert 11.0 < whole.base / 2**30 < 11.3
    assert whole.total < 22.0

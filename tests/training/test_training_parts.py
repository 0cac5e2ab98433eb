"""Files, optimizer, objective, adapter: the laws of each part."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import FluxTransformer2DModel
from scipy import stats

from training.errors import TrainingError
from training.evaluation.statistics import better_than, bootstrap, wilson
from training.files import replacing, write_text
from training.loop.muon import Muon, orthogonalize
from training.loop.optim import make_optimizers, rate_factor
from training.model.in_context import InContext
from training.model.lora import add_lora, fold_alpha, target_names
from training.planner.decoded import DecodedError
from training.planner.objective import Batch, draw_sigma, flow_matching_loss, loss_weights
from training.sections.planner import LoraSection, VaeSection
from training.sections.run import ObjectiveSection, OptimizerSection
from training.tiny_base.parts import make_transformer
from training.tiny_base.vae import make_vae
from visual_planner.planner.conditioning import pack_latents
from visual_planner.planner.spec import PlannerSpec

SPEC = PlannerSpec(cell_height=32, cell_width=48, condition_tokens="first_cell")


def small_transformer(seed: int = 0) -> FluxTransformer2DModel:
    torch.manual_seed(seed)
    transformer = make_transformer(1, 1, 1)
    for parameter in transformer.parameters():  # gates start at zero: give everything something to do
        torch.nn.init.normal_(parameter, std=0.05)
    return transformer


def batch_of(spec: PlannerSpec, count: int = 2) -> Batch:
    height, width = (side // 8 for side in spec.grid_size)
    torch.manual_seed(1)
    return Batch(
        torch.randn(count, 16, height, width),
        torch.randn(count, 16, spec.cell_height // 8, spec.cell_width // 8),
        torch.randn(count, 5, 128),
        torch.randn(count, 64),
    )


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]


def test_an_unwritable_place_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingError, match=r"file/a\.txt cannot be written: .*file is a file, not a folder"):
        write_text(tmp_path / "file" / "a.txt", "x")


@pytest.mark.parametrize("shape", [(3, 16, 16), (2, 8, 40), (2, 40, 8)])
def test_muon_brings_singular_values_near_one(shape):
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalize(matrices, steps=8))
    assert values.min() > 0.6
    assert values.max() < 1.3


def test_muon_keeps_singular_vectors():
    matrix = torch.randn(1, 12, 20, generator=torch.Generator().manual_seed(0))
    left, _, right = torch.linalg.svd(matrix[0], full_matrices=False)
    turned = left.T @ orthogonalize(matrix)[0] @ right.T
    assert (turned - turned.diagonal().diag()).abs().max() < 1e-4


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_muon_is_torchs_muon(weight_decay):
    """Torch iterates in bfloat16, so single entries differ by its rounding; scale, momentum and decay are the same."""
    generator = torch.Generator().manual_seed(0)
    start = [torch.randn(shape, generator=generator) for shape in ((24, 16), (16, 48), (16, 16))]
    ours, theirs = ([torch.nn.Parameter(value.clone()) for value in start] for _ in range(2))
    settings = {"lr": 0.05, "momentum": 0.9, "weight_decay": weight_decay}
    steppers = Muon(ours, **settings), torch.optim.Muon(theirs, **settings, adjust_lr_fn="match_rms_adamw")
    for _ in range(6):
        for mine, other in zip(ours, theirs, strict=True):
            mine.grad = torch.randn(mine.shape, generator=generator)
            other.grad = mine.grad.clone()
        for stepper in steppers:
            stepper.step()
    for mine, other, first in zip(ours, theirs, start, strict=True):
        assert (mine - other).norm() <= 0.02 * (other - first).norm()


def test_muon_takes_an_adapters_factors_but_not_those_of_inputs_and_outputs():
    named = {
        name: torch.nn.Parameter(torch.zeros(shape))
        for name, shape in (
            ("blocks.0.attn.to_q.lora_A.weight", (4, 8)), ("blocks.0.attn.to_q.lora_B.weight", (8, 4)),
            ("x_embedder.lora_A.weight", (4, 8)), ("proj_out.lora_B.weight", (8, 4)), ("blocks.0.norm.bias", (8,)),
        )
    }  # fmt: skip
    muon, rest = make_optimizers(named.items(), OptimizerSection(name="muon"))
    assert [tuple(p.shape) for group in muon.param_groups for p in group["params"]] == [(4, 8), (8, 4)]
    assert sum(len(group["params"]) for group in rest.param_groups) == 3
    (alone,) = make_optimizers(named.items(), OptimizerSection(name="adamw"))
    assert sum(len(group["params"]) for group in alone.param_groups) == 5


def test_muon_refuses_shares_of_matrices(monkeypatch):
    monkeypatch.setattr("training.loop.optim.DTensor", torch.nn.Parameter)
    named = {"blocks.0.weight": torch.nn.Parameter(torch.zeros(4, 8))}
    with pytest.raises(TrainingError, match="muon needs whole matrices"):
        make_optimizers(named.items(), OptimizerSection(name="muon"))


def test_the_rate_warms_up_and_decays_to_zero():
    section = OptimizerSection(warmup_steps=4, decay_steps=4)
    factors = [rate_factor(step, 12, section) for step in range(12)]
    assert factors[:4] == [0.25, 0.5, 0.75, 1.0]
    assert factors[7] == 1.0
    assert factors[-1] == pytest.approx(0.2)
    assert factors == sorted(factors[:4]) + [1.0] * 4 + sorted(factors[8:], reverse=True)


@pytest.mark.parametrize(
    ("section", "distribution"),
    [
        (ObjectiveSection(timesteps="uniform"), stats.uniform().cdf),
        (
            ObjectiveSection(timesteps="logit_normal", logit_mean=1.6, logit_std=1.4),
            lambda s: stats.norm(1.6, 1.4).cdf(np.log(s / (1 - s))),
        ),
        # s = shift u / (1 + (shift - 1) u), solved for the uniform u
        (ObjectiveSection(timesteps="shifted", shift=3.0), lambda s: s / (3.0 - 2.0 * s)),
    ],
)
def test_noise_levels_follow_their_distribution(section, distribution):
    sigma = draw_sigma(20000, section, torch.Generator().manual_seed(0)).double().numpy()
    assert ((sigma > 0) & (sigma <= 1)).all()
    assert stats.kstest(sigma, distribution).pvalue > 0.01


class Oracle(torch.nn.Module):
    """Answers with the true velocity, so that the loss must vanish whatever the noise level."""

    def __init__(self, batch: Batch) -> None:
        super().__init__()
        self.clean = pack_latents(batch.target)
        self.condition = pack_latents(batch.condition)
        self.ids = None

    def forward(self, hidden_states, timestep, img_ids, **_):
        count = self.clean.shape[1]
        assert torch.equal(hidden_states[:, count:], self.condition)
        self.ids = img_ids
        velocity = (hidden_states[:, :count] - self.clean) / timestep[:, None, None]
        return (torch.cat([velocity, torch.full_like(self.condition, 1e6)], dim=1),)


@pytest.mark.parametrize("motion_weight", [0.0, 2.0])
def test_the_loss_vanishes_for_the_true_velocity_and_ignores_condition_outputs(motion_weight):
    batch = batch_of(SPEC)
    oracle = Oracle(batch)
    section = ObjectiveSection(motion_weight=motion_weight, timesteps="logit_normal", logit_mean=1.0)
    loss = flow_matching_loss(oracle, InContext(SPEC), batch, section, torch.Generator().manual_seed(0), True)
    assert loss < 1e-8
    rows, cols = SPEC.cell_tokens
    first_cell = [row * 3 * cols + col for row in range(rows) for col in range(cols)]
    assert torch.equal(oracle.ids[9 * rows * cols :], oracle.ids[first_cell])


def test_motion_weights_have_mean_one_and_favour_what_moves():
    still = torch.ones(1, 16, 12, 18)
    moved = still.clone()
    moved[..., 8:10, 3:5] = 4.0
    in_context, section = InContext(SPEC), ObjectiveSection(motion_weight=1.0)
    weights = loss_weights(replace(batch_of(SPEC, 1), target=moved), in_context, section)
    assert weights.mean() == pytest.approx(1.0, abs=1e-5)
    assert weights[0, 0, 8, 3] > 2 * weights[0, 0, 0, 0]
    assert torch.equal(loss_weights(replace(batch_of(SPEC, 1), target=still), in_context, section), still)
    assert loss_weights(batch_of(SPEC), in_context, ObjectiveSection()) is None


def test_end_effector_weights_peak_where_it_is_in_each_cell_and_leave_unknown_frames_even():
    height, width = (side // 3 for side in batch_of(SPEC).target.shape[-2:])
    places = torch.full((1, 9, 2), torch.nan)
    places[0, 0] = torch.tensor([0.5 / width, 0.5 / height])  # the first cell's upper left latent
    places[0, 3] = torch.tensor([(width - 0.5) / width, (height - 0.5) / height])  # in the serpentine: right, middle
    batch = replace(batch_of(SPEC, 1), end_effector=places)
    section = ObjectiveSection(end_effector_weight=4.0, end_effector_radius=0.2)
    weights = loss_weights(batch, InContext(SPEC), section)
    assert weights.mean() == pytest.approx(1.0, abs=1e-5)
    largest = weights[0, 0] == weights.max()
    assert largest.nonzero().tolist() == [[0, 0], [2 * height - 1, 3 * width - 1]]
    assert weights.max() / weights.min() == pytest.approx(5.0, rel=1e-3)
    others = weights[0, 0, :height, width:]
    assert torch.equal(others, others[:1, :1].expand_as(others)), "cells without a known place are all alike"
    with pytest.raises(TrainingError, match="end_effector_weight must be 0 here"):
        loss_weights(batch_of(SPEC), InContext(SPEC), section)
    # as round in pixels as cells are wide
    cell = weights[0, 0, :height, :width] - weights.min()
    assert torch.allclose(cell[0, 1] / cell[0, 0], torch.exp(torch.tensor(-1 / (2 * (0.2 * height) ** 2))), rtol=1e-3)


@pytest.fixture(scope="module")
def decoded() -> DecodedError:
    torch.manual_seed(3)
    vae = make_vae(VaeSection(source=["none"], out="none", channels=(32, 32, 32, 32)))
    return DecodedError(vae.eval(), SPEC.layout)


def test_decoded_frames_add_nothing_for_the_true_velocity(decoded):
    batch, section = batch_of(SPEC), ObjectiveSection(decoded_weight=2.0)

    def loss(**how):
        generator = torch.Generator().manual_seed(0)
        return flow_matching_loss(Oracle(batch), InContext(SPEC), batch, section, generator, True, **how)

    assert loss(decoded=decoded) < 1e-4
    with pytest.raises(TrainingError, match="decoded_weight must be 0 here"):
        loss()


def test_the_error_of_decoded_frames_looks_at_one_later_frame_and_most_around_the_end_effector(decoded, monkeypatch):
    batch, section = batch_of(SPEC), ObjectiveSection(end_effector_weight=50.0, end_effector_radius=0.1)
    height, width = (side // 3 for side in batch.target.shape[-2:])

    def error(estimate, seed=0, **changes):
        return decoded(estimate, replace(batch, **changes), section, torch.Generator().manual_seed(seed))

    estimate = batch.target.clone().requires_grad_(True)
    other = torch.randn_like(estimate)
    gradient = torch.autograd.grad(error(estimate + 0.1 * other), estimate)[0].abs().sum(dim=1)
    cells = gradient.unflatten(1, (3, height)).unflatten(3, (3, width)).sum(dim=(2, 4)).flatten(1)
    assert ((cells > 0).sum(dim=1) == 1).all() and (cells[:, 0] == 0).all()
    first = batch.target.clone()
    first[..., :height, :width] = 5.0
    assert all(error(first, seed) == 0 for seed in range(20))

    # an error in the left half of every cell, and an end effector on the left or on the right, seen without a decoder
    enlarge = torch.nn.Upsample(scale_factor=8)
    monkeypatch.setattr("training.planner.decoded.decoded_pixels", lambda _, latents: enlarge(latents[:, :3]))
    left = batch.target.clone().unflatten(3, (3, width))
    left[..., : width // 2] += 1.0
    left = left.flatten(3)
    sides = [error(left, end_effector=torch.tensor([x, 0.5]).expand(2, 9, 2)) for x in (0.2, 0.8)]
    assert sides[0] > 5 * sides[1]


def test_the_merged_forward_is_pefts():
    results = []
    batch = batch_of(SPEC)
    for merged in (False, True):
        transformer = small_transformer()
        add_lora(transformer, LoraSection(rank=4, alpha=8, targets="all_linear", merged_forward=merged))
        torch.manual_seed(5)
        for name, parameter in transformer.named_parameters():
            if ".lora_" in name:
                torch.nn.init.normal_(parameter, std=0.1)
        loss = flow_matching_loss(
            transformer, InContext(SPEC), batch, ObjectiveSection(), torch.Generator().manual_seed(0), True
        )
        loss.backward()
        gradients = {n: p.grad for n, p in transformer.named_parameters() if p.grad is not None}
        results.append((loss.detach(), gradients))
    (plain, plain_gradients), (merged, merged_gradients) = results
    assert torch.allclose(plain, merged, rtol=1e-5)
    assert plain_gradients.keys() == merged_gradients.keys()
    assert all(".lora_" in name for name in plain_gradients)
    for name, gradient in plain_gradients.items():
        assert torch.allclose(gradient, merged_gradients[name], rtol=1e-3, atol=1e-6), name


def test_presets_name_the_layers_of_the_method():
    transformer = make_transformer(1, 1, 1)
    paper = target_names(transformer, "paper")
    assert len(paper) == 15  # 8 attention and 4 feed-forward layers of a double block, q k v of a single block
    assert "transformer_blocks.0.ff_context.net.2" in paper
    assert "single_transformer_blocks.0.attn.to_q" in paper
    attention, blocks = target_names(transformer, "attention"), target_names(transformer, "blocks")
    assert len(attention) == 11
    assert set(attention) < set(paper) < set(blocks) < set(target_names(transformer, "all_linear"))
    assert "proj_out" not in blocks


def test_alpha_is_folded_into_one_factor():
    tensors = {"transformer.a.lora_A.weight": torch.ones(2, 3), "transformer.a.lora_B.weight": torch.ones(3, 2)}
    folded = fold_alpha(tensors, LoraSection(rank=2, alpha=8))
    assert torch.equal(folded["transformer.a.lora_A.weight"], torch.ones(2, 3))
    assert torch.equal(folded["transformer.a.lora_B.weight"], torch.full((3, 2), 4.0))


def test_intervals():
    assert wilson(0, 10)[0] == 0.0
    assert wilson(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)  # value of the published formula
    low, high = bootstrap(torch.arange(100.0).numpy())
    assert low < 49.5 < high
    assert better_than([2, 3, 4, 5, 6, 7], [1, 1, 1, 1, 1, 1]) < 0.05
    assert better_than([1, 1], [1, 1]) == 1.0

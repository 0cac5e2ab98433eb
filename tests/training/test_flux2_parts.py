"""FLUX.2 in the training: text, latents, layers, cached conditions and classifier-free guidance, part by part."""

import copy

import pytest
import torch

from support.tiny_flux2 import TEXT_TOKENS, TEXT_WIDTH, make_transformer, write_tiny_flux2
from training.errors import TrainingError
from training.model.autoencoder import decode_latents, encode_pictures, load_vae
from training.model.bases.registry import base_of_folder
from training.model.in_context import InContext
from training.model.lora import add_lora, target_names
from training.model.sampling import draw_noise, sample
from training.planner.memory import memory_plan
from training.sections.planner import LoraSection, TrainSection
from visual_planner.planner.families import FLUX2
from visual_planner.planner.spec import PlannerSpec

CACHED = PlannerSpec(family="flux2", cell_height=32, cell_width=48, condition_tokens="first_cell_cached", steps=3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_tiny_flux2(tmp_path_factory.mktemp("flux2"))


def call_of(spec, seed=0, batch=2, words=7):
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randn(batch, spec.target_tokens, 128, generator=generator)
    condition = torch.randn(batch, spec.conditioning_tokens, 128, generator=generator)
    text = torch.randn(batch, words, TEXT_WIDTH, generator=generator)
    return tokens, condition, text, None, torch.rand(batch, generator=generator), None


@pytest.mark.parametrize("prompt", ["push the red cube", "", "zürich {x} (a:1.2)", "red cube " * 60])
def test_text_is_that_of_the_pipeline(folder, prompt):
    from diffusers import Flux2KleinPipeline
    from transformers import AutoTokenizer, Qwen3ForCausalLM

    wanted = Flux2KleinPipeline._get_qwen3_prompt_embeds(
        Qwen3ForCausalLM.from_pretrained(folder / "text_encoder").eval(),
        AutoTokenizer.from_pretrained(folder / "tokenizer"),
        ["other", prompt],
        max_sequence_length=TEXT_TOKENS,
        hidden_states_layers=(1, 2, 3),
    )
    states, pooled = base_of_folder(folder).load_text(folder, 0, torch.float32)(["other", prompt])
    assert pooled is None
    assert (states - wanted).abs().max() <= 1e-6 * wanted.abs().max()


def test_latents_are_normalised_by_the_autoencoders_statistics(folder):
    from diffusers import Flux2KleinPipeline

    vae = load_vae(folder / "vae")
    pictures = torch.rand(2, 48, 64, 3, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        mean = vae.encode(pictures.permute(0, 3, 1, 2) * 2 - 1).latent_dist.mode()
        wanted = Flux2KleinPipeline._patchify_latents(mean)
        spread = (vae.bn.running_var + 1e-4).sqrt()[:, None, None]
        wanted = (wanted - vae.bn.running_mean[:, None, None]) / spread
        shown = (vae.decode(mean).sample.permute(0, 2, 3, 1) / 2 + 0.5).clamp(0, 1)
    latents = encode_pictures(vae, pictures)
    assert latents.shape == (2, 128, 3, 4)
    assert (latents - wanted).abs().max() < 1e-5
    assert (decode_latents(vae, latents) - shown).abs().max() < 1e-5


@pytest.mark.parametrize(("targets", "count"), [("attention", 10), ("paper", 14), ("blocks", 16), ("all_linear", 25)])
def test_presets_reach_both_kinds_of_blocks(targets, count):
    with torch.device("meta"):
        names = target_names(make_transformer(), targets)
    assert len(names) == count
    assert {name.split(".")[0] for name in names} >= {"transformer_blocks", "single_transformer_blocks"}


@pytest.mark.parametrize("ids", ["clone", "kontext", "fold"])
def test_keys_made_once_give_the_single_pass(ids):
    torch.manual_seed(0)
    transformer = make_transformer()
    spec = PlannerSpec(**{**vars(CACHED), "position_ids": ids})
    in_context = InContext(spec)
    tokens, condition, text, pooled, sigma, guidance = call_of(spec)
    together = InContext(PlannerSpec(**{**vars(spec), "condition_tokens": "first_cell"}))
    with torch.no_grad():
        keys = in_context.prepare(transformer, condition, text, pooled, guidance)
        for level in (sigma, sigma / 3):
            once = in_context(transformer, tokens, keys, text, pooled, level, guidance)
            single = in_context(transformer, tokens, condition, text, pooled, level, guidance)
            assert (once - single).abs().max() <= 1e-5
            other = together(transformer, tokens, condition, text, pooled, level, guidance)
            assert (other - single).abs().max() > 1e-3


def test_gradients_of_a_cached_condition_survive_checkpointing():
    torch.manual_seed(1)
    transformer, in_context, call = make_transformer(), InContext(CACHED), call_of(CACHED)
    add_lora(transformer, LoraSection(rank=4, alpha=4, targets="all_linear"))
    for name, parameter in transformer.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    plain = copy.deepcopy(transformer)
    transformer.train().enable_gradient_checkpointing()
    for model in (transformer, plain):
        in_context(model, *call).square().mean().backward()
    wanted = {name: p.grad for name, p in plain.named_parameters() if p.requires_grad}
    largest = max(float(grad.abs().max()) for grad in wanted.values())
    assert len(wanted) == 50 and largest > 1e-3
    for name, parameter in transformer.named_parameters():
        if parameter.requires_grad:
            assert (parameter.grad - wanted[name]).abs().max() <= 1e-6 * max(1.0, largest), name


@pytest.mark.parametrize("tokens", ["first_cell", "first_cell_cached"])
def test_classifier_free_guidance_is_the_formula(tokens):
    torch.manual_seed(2)
    transformer = make_transformer()
    spec = PlannerSpec(**{**vars(CACHED), "condition_tokens": tokens, "steps": 1, "cfg": 3.0})
    in_context, noise = InContext(spec), draw_noise(spec, [1, 2])
    assert noise.shape == (2, 128, 6, 9)
    condition = torch.randn(2, *spec.condition_latent_shape, generator=torch.Generator().manual_seed(3))
    text, empty = call_of(spec)[2], torch.randn(1, 7, TEXT_WIDTH, generator=torch.Generator().manual_seed(4))
    guided = sample(transformer, in_context, spec, noise, condition, text, None, empty=(empty, None))
    good, bad = (
        sample(transformer, in_context, spec, noise, condition, words, None, cfg=1.0)
        for words in (text, empty.expand(2, -1, -1))
    )
    assert (guided - (bad + 3.0 * (good - bad))).abs().max() < 1e-4
    assert (guided - good).abs().max() > 0.01
    with pytest.raises(TrainingError, match="needs the text embeddings of the empty prompt, got none"):
        sample(transformer, in_context, spec, noise, condition, text, None)


def section(**changes) -> TrainSection:
    return TrainSection(base="absent", cache="absent", out="absent", **changes)


def test_the_memory_of_klein_4b_is_known_without_its_weights():
    spec = PlannerSpec(family="flux2", condition_tokens="first_cell")
    how = {"gradient_checkpointing": True, "mixed_precision": "bf16", "lora": {"rank": 64, "targets": "blocks"}}
    plain, packed = (memory_plan(section(quantize=form, **how), spec, 512) for form in ("none", "int8"))
    assert plain.tokens == (2700, 300, 512)
    assert plain.base == 2 * 3_875_544_576 or plain.base / 2**30 == pytest.approx(7.22, abs=0.1)
    assert packed.total < plain.total - 3
    assert 8 < plain.total < 16


def test_flux2_is_the_family_of_its_folder(folder):
    assert base_of_folder(folder).family is FLUX2

"""The parts of a tiny FLUX.2 in ComfyUI give what diffusers and transformers give."""

import json
import shutil

import pytest
import torch

from support.tiny_flux2 import TEXT_TOKENS, TEXT_WIDTH

pytestmark = pytest.mark.comfyui

PROMPTS = ("push the red cube to the left", "", "zürich \u2603 12.5% (blue:1.3)", "one {two} three")
LONG = "push the red cube along the path that is drawn on the first frame, " * 8


def text_of_diffusers(folder, prompt):
    from diffusers import Flux2KleinPipeline
    from transformers import AutoTokenizer, Qwen3ForCausalLM

    encoder = Qwen3ForCausalLM.from_pretrained(folder / "text_encoder").eval()
    tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer")
    return Flux2KleinPipeline._get_qwen3_prompt_embeds(
        encoder, tokenizer, prompt, max_sequence_length=TEXT_TOKENS, hidden_states_layers=(1, 2, 3)
    )


@pytest.mark.parametrize("prompt", PROMPTS)
def test_the_text_encoder_gives_what_the_pipeline_gives(flux2_clip, flux2_folder, prompt):
    context = flux2_clip.encode_from_tokens(flux2_clip.tokenize(prompt))
    wanted = text_of_diffusers(flux2_folder, prompt)
    assert context.shape == wanted.shape == (1, TEXT_TOKENS, TEXT_WIDTH)
    assert wanted.std() > 0.1
    assert (context - wanted).abs().max() < 1e-5 * wanted.abs().max()


def test_a_long_prompt_is_cut_where_the_pipeline_cuts_it(flux2_clip, flux2_folder, caplog):
    context = flux2_clip.encode_from_tokens(flux2_clip.tokenize(LONG))
    wanted = text_of_diffusers(flux2_folder, LONG)
    assert (context - wanted).abs().max() < 1e-5 * wanted.abs().max()
    assert f"at most {TEXT_TOKENS} tokens" in caplog.text


def test_the_vae_gives_what_diffusers_gives(flux2_vae, flux2_folder):
    from diffusers import AutoencoderKLFlux2, Flux2KleinPipeline

    vae = AutoencoderKLFlux2.from_pretrained(flux2_folder / "vae").eval()
    picture = torch.rand(2, 48, 64, 3, generator=torch.Generator().manual_seed(1))
    mean = Flux2KleinPipeline._patchify_latents(vae.encode(picture.permute(0, 3, 1, 2) * 2 - 1).latent_dist.mean)
    spread = (vae.bn.running_var + vae.config.batch_norm_eps).sqrt()[:, None, None]
    wanted = (mean - vae.bn.running_mean[:, None, None]) / spread
    latent = flux2_vae.encode(picture)
    assert latent.shape == (2, 128, 3, 4)
    assert wanted.std() > 0.1
    assert (latent - wanted).abs().max() < 1e-5
    picture = vae.decode(Flux2KleinPipeline._unpatchify_latents(mean)).sample.permute(0, 2, 3, 1) / 2 + 0.5
    assert picture.std() > 0.01
    assert (flux2_vae.decode(wanted) - picture.clamp(0, 1)).abs().max() < 2e-5


def test_the_model_is_comfyuis_own(flux2_pair):
    model, _ = flux2_pair
    assert any(kind.__name__ == "Flux2" for kind in type(model.model).__mro__)
    assert model.model.diffusion_model.num_heads == 2
    assert next(model.model.diffusion_model.parameters()).dtype == torch.float32


@pytest.fixture
def broken(flux2_folder, tmp_path):
    return shutil.copytree(flux2_folder, tmp_path / "flux2")


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        (
            "transformer",
            {"_class_name": "SD3Transformer2DModel"},
            "class FluxTransformer2DModel or Flux2Trans.*, got 'SD3",
        ),
        ("transformer", {"attention_head_dim": 64}, "transformer must have .*, got {'attention_head_dim': 64}"),
        ("transformer", {"num_layers": 2}, "must have the 49 weights that its config asks for, but 16 are missing or"),
        ("text_encoder", {"model_type": "t5"}, "must be a Qwen3 with heads of 128, got {'model_type': 't5'"),
        (
            "text_encoder",
            {"num_hidden_layers": 5},
            "must have the weights that its config asks for, but 11 are missing",
        ),
        ("vae", {"_class_name": "AutoencoderKL"}, "VAE must have {'_class_name': 'AutoencoderKLFlux2'.*, got"),
        ("vae", {"layers_per_block": 2}, "VAE must have the .* weights that its config asks for, got 183"),
    ],
)
def test_a_part_that_does_not_fit_is_named(tiny, broken, part, change, message):
    file = broken / part / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    load = {"transformer": tiny.load_model, "text_encoder": tiny.load_clip, "vae": tiny.load_vae}[part]
    with pytest.raises(ValueError, match=message) as caught:
        load(broken)
    assert "\n" not in str(caught.value)

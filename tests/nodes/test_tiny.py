"""The tiny planner in ComfyUI gives what diffusers and transformers give."""

import json
import shutil

import pytest
import torch

pytestmark = pytest.mark.comfyui

PROMPTS = (
    "push the red cube to the left",
    "",
    "A 3x3 grid of NINE frames showing, step by step, how the robot will pick up the blue cylinder.",
    "zürich \u2603 12.5%",
)


@pytest.mark.parametrize("prompt", PROMPTS)
def test_text_encoders_give_what_transformers_gives(tiny_clip, tiny_folder, prompt):
    from transformers import CLIPTextModel, CLIPTokenizer, PreTrainedTokenizerFast, T5EncoderModel

    context, pooled = tiny_clip.encode_from_tokens(tiny_clip.tokenize(prompt), return_pooled=True)
    clip_tokens = CLIPTokenizer.from_pretrained(tiny_folder / "tokenizer")
    clip_ids = clip_tokens(prompt, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids
    wanted_pooled = CLIPTextModel.from_pretrained(tiny_folder / "text_encoder").eval()(clip_ids).pooler_output
    t5_tokens = PreTrainedTokenizerFast.from_pretrained(tiny_folder / "tokenizer_2")
    t5_ids = t5_tokens(prompt, padding="max_length", max_length=32, truncation=True, return_tensors="pt").input_ids
    wanted = T5EncoderModel.from_pretrained(tiny_folder / "text_encoder_2").eval()(t5_ids)[0]

    assert context.shape == (1, 32, 128)
    assert (context - wanted).abs().max() < 1e-5
    assert (pooled - wanted_pooled).abs().max() < 1e-5


def test_a_long_prompt_is_cut_with_its_end_token_kept(tiny_clip, caplog):
    tokens = tiny_clip.tokenize("push the red cube " * 20)["t5xxl"]
    assert [len(section) for section in tokens] == [32]
    assert tokens[0][-1][0] == 1
    assert "at most 32 tokens" in caplog.text


def test_vae_gives_what_diffusers_gives(tiny_vae, tiny_folder, tiny_model):
    from diffusers import AutoencoderKL

    vae = AutoencoderKL.from_pretrained(tiny_folder / "vae").eval()
    picture = torch.rand(2, 48, 64, 3, generator=torch.Generator().manual_seed(1))
    mean = vae.encode(picture.permute(0, 3, 1, 2) * 2 - 1).latent_dist.mean
    latent = tiny_vae.encode(picture)
    assert latent.shape == (2, 16, 6, 8)
    assert (latent - mean).abs().max() < 1e-5
    normalised = (mean - vae.config.shift_factor) * vae.config.scaling_factor
    assert (tiny_model.model.process_latent_in(latent) - normalised).abs().max() < 1e-5
    wanted = (vae.decode(mean).sample.permute(0, 2, 3, 1) / 2 + 0.5).clamp(0, 1)
    assert wanted.std() > 0.01
    assert (tiny_vae.decode(mean) - wanted).abs().max() < 1e-5


def test_a_vae_of_another_kind_is_refused(comfy, copy_of_tiny):
    config = json.loads((copy_of_tiny / "vae" / "config.json").read_text())
    for change in ({"_class_name": "AutoencoderTiny"}, {"latent_channels": 4}, {"scaling_factor": 0.18215}):
        (copy_of_tiny / "vae" / "config.json").write_text(json.dumps(config | change))
        with pytest.raises(ValueError, match="VAE must have .*'latent_channels': 16.*, got"):
            comfy.call("VisualPlannerTinyLoader")


def test_the_node_gives_all_three_parts(comfy, shipped):
    model, clip, vae = comfy.call("VisualPlannerTinyLoader")
    assert type(model.model).__name__ == "Flux"
    assert model.model.diffusion_model.num_heads == 2
    assert next(model.model.diffusion_model.parameters()).dtype == torch.float32
    assert clip.tokenize("reach")["l"]
    assert vae.latent_channels == 16


BROKEN = (
    "transformer/config.json",
    "transformer/diffusion_pytorch_model.safetensors",
    "vae/diffusion_pytorch_model.safetensors",
    "text_encoder/model.safetensors",
    "tokenizer/vocab.json",
    "tokenizer_2/tokenizer.json",
)


@pytest.fixture
def copy_of_tiny(tiny, tiny_folder, tmp_path, monkeypatch):
    folder = shutil.copytree(tiny_folder, tmp_path / "tiny_planner")
    monkeypatch.setattr(tiny, "TINY_FOLDER", folder)
    return folder


@pytest.mark.parametrize("name", BROKEN)
def test_a_missing_file_is_named(comfy, copy_of_tiny, name):
    (copy_of_tiny / name).unlink()
    with pytest.raises(ValueError, match=r"tiny planner's .* must be a file, but .* does not exist") as caught:
        comfy.call("VisualPlannerTinyLoader")
    assert name.rsplit("/")[-1] in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", [name for name in BROKEN if name.endswith(".safetensors")])
@pytest.mark.parametrize("keep", [0, 100, 0.5, -1])
def test_a_truncated_file_is_named(comfy, copy_of_tiny, name, keep):
    content = (copy_of_tiny / name).read_bytes()
    length = int(len(content) * keep) if isinstance(keep, float) else keep
    (copy_of_tiny / name).write_bytes(content[:length])
    with pytest.raises(ValueError, match=r"must have \d+ bytes, but has \d+|has no header|cannot be read") as caught:
        comfy.call("VisualPlannerTinyLoader")
    assert "\n" not in str(caught.value)


def test_weights_that_do_not_fit_the_config_are_an_error(comfy, copy_of_tiny):
    config = json.loads((copy_of_tiny / "text_encoder" / "config.json").read_text())
    (copy_of_tiny / "text_encoder" / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    with pytest.raises(ValueError, match="CLIP must have the weights that its config asks for, but 16 are missing"):
        comfy.call("VisualPlannerTinyLoader")


def test_a_vae_with_weights_missing_is_an_error(comfy, copy_of_tiny):
    config = json.loads((copy_of_tiny / "vae" / "config.json").read_text())
    (copy_of_tiny / "vae" / "config.json").write_text(json.dumps(config | {"layers_per_block": 2}))
    with pytest.raises(ValueError, match=r"VAE must have the \d+ weights that its config asks for, got 180"):
        comfy.call("VisualPlannerTinyLoader")

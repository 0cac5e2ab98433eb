"""A part of another family than the one that is asked for is refused in one line, before anything is computed."""

import pytest
import torch

from support.tiny_flux2 import make_transformer, write_tiny_flux2
from training.errors import TrainingError
from training.model.autoencoder import load_vae
from training.model.bases.split_attention import split_attention
from training.model.lora import target_names
from training.model.text import TextEncoders
from training.model.transformer import load_config_only, load_transformer


@pytest.fixture(scope="module")
def flux2(tmp_path_factory):
    return write_tiny_flux2(tmp_path_factory.mktemp("flux2"))


@pytest.mark.parametrize("load", [load_transformer, load_config_only])
def test_a_transformer_of_another_class_is_refused(flux2, load):
    message = r"transformer must be of class FluxTransformer2DModel, got Flux2Transformer2DModel: "
    with pytest.raises(TrainingError, match=message) as caught:
        load(flux2)
    assert "\n" not in str(caught.value)


def test_an_autoencoder_of_another_class_is_refused(flux2):
    with pytest.raises(TrainingError, match="autoencoder must be of class AutoencoderKL, got AutoencoderKLFlux2: "):
        load_vae(flux2 / "vae")


def test_text_encoders_of_another_family_are_refused(flux2):
    with pytest.raises(TrainingError, match="has no folder tokenizer_2: it must be a FLUX pipeline"):
        TextEncoders.load(flux2)


def test_attention_that_cannot_be_split_is_refused():
    with pytest.raises(TrainingError, match=r"must have FLUX\.1's attention layers, got Flux2Transformer2DModel"):
        split_attention(make_transformer())


@pytest.mark.parametrize("targets", ["paper", "attention"])
def test_a_preset_that_leaves_out_single_blocks_is_refused(targets):
    with torch.device("meta"):
        transformer = make_transformer()
    with pytest.raises(TrainingError, match=f"{targets} must reach every kind of block, .* single_transf"):
        target_names(transformer, targets)

"""A part of another family than the one that is asked for is refused in one line, before anything is computed."""

import json

import pytest
from torch.nn import Linear

from support.tiny_flux2 import make_transformer, write_tiny_flux2
from training.errors import TrainingError
from training.model.autoencoder import load_vae
from training.model.bases.registry import base_of_module
from training.model.bases.split_attention import split_attention
from training.model.text import TextEncoders
from training.model.transformer import load_config_only, load_transformer
from visual_planner.planner.families import FLUX1


@pytest.fixture(scope="module")
def flux2(tmp_path_factory):
    return write_tiny_flux2(tmp_path_factory.mktemp("flux2"))


@pytest.fixture
def unknown(flux2, tmp_path):
    """A base whose parts are of classes that nobody knows."""
    for part in ("transformer", "vae"):
        (tmp_path / part).mkdir()
        config = json.loads((flux2 / part / "config.json").read_text())
        (tmp_path / part / "config.json").write_text(json.dumps(config | {"_class_name": "SomethingElse"}))
    return tmp_path


@pytest.mark.parametrize("load", [load_transformer, load_config_only])
def test_a_transformer_of_an_unknown_class_is_refused(unknown, load):
    message = r"transformer must be of class FluxTransformer2DModel or Flux2Transformer2DModel, got SomethingElse: "
    with pytest.raises(TrainingError, match=message) as caught:
        load(unknown)
    assert "\n" not in str(caught.value)


def test_a_transformer_of_the_other_family_is_refused(flux2):
    with pytest.raises(TrainingError, match=r"must be a FLUX\.1 model, as spec\.family says, got FLUX\.2"):
        load_transformer(flux2, family=FLUX1)


def test_an_autoencoder_of_an_unknown_class_is_refused(unknown):
    message = "autoencoder must be of class AutoencoderKL or AutoencoderKLFlux2, got SomethingElse: "
    with pytest.raises(TrainingError, match=message):
        load_vae(unknown / "vae")


def test_text_encoders_of_another_family_are_refused(flux2):
    with pytest.raises(TrainingError, match="has no folder tokenizer_2: it must be a FLUX pipeline"):
        TextEncoders.load(flux2)


def test_attention_that_cannot_be_split_is_refused():
    with pytest.raises(TrainingError, match=r"must have FLUX\.1's attention layers, got Flux2Transformer2DModel"):
        split_attention(make_transformer())


def test_a_module_of_no_family_is_refused():
    with pytest.raises(TrainingError, match="must be a transformer or autoencoder of FLUX, got Linear"):
        base_of_module(Linear(1, 1))

"""Defects that other in-context packs have, each as a test of ours.

Latents that reach the model without its scaling; a switch that changes nothing; a patch that leaks into other clones
of the model; classes and functions of ComfyUI changed for everybody.
"""

import itertools
import sys

import pytest
import reference
import sampling
import torch
from cases import Case, conditioned

pytestmark = pytest.mark.comfyui
TOKENS = ("full_grid", "first_cell", "first_cell_cached")
IDS = ("clone", "kontext", "fold")


@pytest.mark.parametrize("tokens", TOKENS)
def test_the_condition_latent_is_scaled_as_the_model_was_trained(pair, in_context, spec_of, monkeypatch, tokens):
    model, transformer = pair
    case = Case(spec_of, 3, rows=2, cols=2, condition_tokens=tokens)
    patched, positive = conditioned(in_context, model, case)
    _, raw = sampling.predict(patched, case.latent, case.sigma, positive)
    assert (raw[0] - case.wanted(transformer)).abs().max() <= 1e-5
    monkeypatch.setattr(reference, "process_in", lambda latent: latent)
    assert (raw[0] - case.wanted(transformer)).abs().max() > 1e-2


def test_every_setting_has_an_effect(pair, in_context, spec_of):
    """No two of the nine ways to condition give the same prediction."""
    model, _ = pair
    outputs = {}
    for tokens, ids in itertools.product(TOKENS, IDS):
        case = Case(
            spec_of, 5, rows=2, cols=3, cell_height=32, cell_width=32, condition_tokens=tokens, position_ids=ids
        )
        case.generator.manual_seed(1)
        case.context, case.pooled = case.noise(1, 6, 128), case.noise(1, 64)
        patched, positive = conditioned(in_context, model, case)
        _, raw = sampling.predict(patched, case.latent[:1], 0.6, positive)
        outputs[tokens, ids] = raw[0]
    assert len(outputs) == 9
    for one, other in itertools.combinations(outputs, 2):
        assert (outputs[one] - outputs[other]).abs().max() > 1e-3, (one, other)


@pytest.mark.parametrize("tokens", TOKENS)
def test_nothing_leaks_to_the_original_or_to_clones(pair, in_context, spec_of, tokens):
    model, _ = pair
    case = Case(spec_of, 7, rows=2, cols=2, condition_tokens=tokens)
    before_clone = model.clone()
    _, wanted = sampling.predict(model, case.latent, case.sigma, case.positive)
    patched, positive = conditioned(in_context, model, case)
    child = patched.clone()
    _, ours = sampling.predict(patched, case.latent, case.sigma, positive)
    in_context.patch_model(child, spec_of(rows=2, cols=2, cell_height=32, cell_width=32))
    # A clone of the planner is a planner; patching it again (above, into a further clone) changes neither.
    for planner in (patched, child):
        _, again = sampling.predict(planner, case.latent, case.sigma, positive)
        assert torch.equal(again[0], ours[0])
    for other in (model, before_clone, model.clone()):
        assert in_context.KEY not in other.wrappers.get("diffusion_model", {})
        assert in_context.condition_cache.KEY not in other.wrappers.get("outer_sample", {})
        _, plain = sampling.predict(other, case.latent, case.sigma, case.positive)
        assert torch.equal(plain[0], wanted[0])


def _everything_of_comfyui() -> dict[str, int]:
    """Identity of every attribute of ComfyUI's modules and of their classes."""
    found = {}
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] != "comfy" or module is None:
            continue
        for attribute, value in list(vars(module).items()):
            if attribute.startswith("__"):
                continue
            if callable(value):
                found[f"{name}.{attribute}"] = id(value)
            if isinstance(value, type) and value.__module__ == name:
                members = vars(value).items()
                found |= {f"{name}.{attribute}.{key}": id(member) for key, member in members if callable(member)}
    return found


@pytest.mark.parametrize("tokens", TOKENS)
def test_no_function_or_class_of_comfyui_is_changed(pair, in_context, spec_of, tokens):
    model, _ = pair
    case = Case(spec_of, 9, rows=2, cols=2, condition_tokens=tokens)
    sampling.predict(model, case.latent, case.sigma, case.positive)  # what ComfyUI itself sets up at a first run
    before = _everything_of_comfyui()
    assert len(before) > 500
    network, methods = model.model.diffusion_model, dict(vars(model.model.diffusion_model))
    during = []

    def look(executor, *args, **kwargs):
        during.append(_everything_of_comfyui())
        return executor(*args, **kwargs)

    patched, positive = conditioned(in_context, model, case)
    patched.add_wrapper_with_key("diffusion_model", "look", look)
    sampling.predict(patched, case.latent, case.sigma, positive)
    assert during
    assert all(before.items() <= seen.items() for seen in (*during, _everything_of_comfyui()))
    assert vars(network).keys() == methods.keys()
    assert all(vars(network)[name] is value for name, value in methods.items() if callable(value))

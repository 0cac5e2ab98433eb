"""kill -9 at random moments, in the middle of writing a checkpoint too: the weights at the end are the very same."""

import multiprocessing
import os
import random
import time

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import Linear

from training.errors import TrainingError
from training.loop.checkpoints import flatten_optimizers, list_checkpoints, restore_optimizers
from training.loop.loop import Loop, make_accelerator
from training.loop.optim import make_optimizers
from training.loop.randomness import step_generator
from training.sections.run import OptimizerSection, RunSection

KILLS, STEPS, KEEP = 20, 60, 2


def net():
    torch.manual_seed(0)
    return torch.nn.Sequential(Linear(64, 256), torch.nn.Tanh(), Linear(256, 8))


def loss_of(model, index, generator):
    time.sleep(0.005)
    x = torch.randn(8, 64, generator=step_generator(99, index))
    noise = 0.01 * torch.randn(8, 8, generator=generator)
    return (model(x) - x[:, :8] + noise).square().mean()


def run(folder):
    """A run that writes a checkpoint every other step."""
    values = {"max_steps": STEPS, "save_every": 2, "log_every": 1, "keep": KEEP, "ema_decay": 0.9, "threads": 1}
    optimizer = {"name": "muon", "learning_rate": 0.01, "muon_learning_rate": 0.01, "decay_steps": 20}
    section = RunSection.model_validate({"out": folder, "optimizer": optimizer, **values})
    loop = Loop(section, net(), loss_of, make_accelerator(section, "cpu"))
    loop.resume()
    loop.run()


def unfinished(folder):
    return list((folder / "checkpoints").glob(".*.part"))


@pytest.mark.timeout(1800)  # every checkpoint waits for the disk, and another program may keep that busy
def test_twenty_kills_change_nothing(tmp_path):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["training.loop.loop"])
    whole = context.Process(target=run, args=(tmp_path / "whole",))
    whole.start()
    folder, rng = tmp_path / "killed", random.Random(3)
    done = while_writing = 0
    while done < KILLS:
        process = context.Process(target=run, args=(folder,))
        process.start()
        started = len(list_checkpoints(folder)) and list_checkpoints(folder)[-1].name
        while process.is_alive():  # let it get on by a checkpoint at least, or the run would never end
            now = list_checkpoints(folder)
            if now and now[-1].name != started:
                break
            time.sleep(0.002)
        in_writing, until = done % 2 == 0, time.monotonic() + rng.uniform(0.0, 0.05)
        while process.is_alive() and not (unfinished(folder) if in_writing else time.monotonic() > until):
            pass
        assert process.is_alive(), f"the run ended after {done} kills: it needs more steps"
        process.kill()
        process.join()
        while_writing += bool(unfinished(folder))
        done += 1
    last = context.Process(target=run, args=(folder,))
    last.start()
    last.join()
    whole.join()
    assert last.exitcode == whole.exitcode == 0
    assert while_writing >= 5
    ends = [list_checkpoints(tmp_path / name) for name in ("whole", "killed")]
    assert [[path.name for path in found] for found in ends] == [[f"{STEPS - 2:08d}", f"{STEPS:08d}"]] * 2
    for part in ("weights", "averaged", "optimizer"):
        expected, got = (load_file(found[-1] / f"{part}.safetensors") for found in ends)
        assert expected.keys() == got.keys()
        assert all(torch.equal(expected[name], got[name]) for name in expected), part
    names = sorted(os.path.relpath(path, folder) for path in folder.rglob("*"))
    files = ["averaged.safetensors", "optimizer.safetensors", "state.json", "weights.safetensors"]
    wanted = ["checkpoints", "log.jsonl"]
    for step in (STEPS - 2, STEPS):
        wanted += [f"checkpoints/{step:08d}", *(f"checkpoints/{step:08d}/{name}" for name in files)]
    assert names == sorted(wanted)


@pytest.mark.parametrize("name", ["adamw", "muon", "prodigy", "adamw8bit"])
def test_a_restored_optimizer_makes_the_same_steps(name):
    """Prodigy keeps its estimate of the rate in the groups, not in the state."""
    pytest.importorskip({"prodigy": "prodigyopt", "adamw8bit": "bitsandbytes"}.get(name, "torch"))
    section = OptimizerSection(name=name, learning_rate=1.0 if name == "prodigy" else 0.01)

    def step(model, optimizers, index):
        loss_of(model, index, step_generator(0, index)).backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()

    models = [net(), net()]
    optimizers = [make_optimizers(model.named_parameters(), section) for model in models]
    for index in range(5):
        step(models[0], optimizers[0], index)
    models[1].load_state_dict(models[0].state_dict())
    tensors, numbers = flatten_optimizers(optimizers[0])
    restore_optimizers(optimizers[1], {key: value.clone() for key, value in tensors.items()}, numbers)
    for index in range(5, 8):
        for model, parts in zip(models, optimizers, strict=True):
            step(model, parts, index)
    for first, second in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.equal(first, second)
    assert not torch.equal(models[0][0].weight, net()[0].weight)


@pytest.mark.parametrize(("name", "package"), [("prodigy", "prodigyopt"), ("adamw8bit", "bitsandbytes")])
def test_an_optimizer_whose_package_is_absent_is_one_line(name, package, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(TrainingError, match=rf"optimizer {name} needs the package {package}: pip install {package}"):
        make_optimizers(net().named_parameters(), OptimizerSection(name=name))

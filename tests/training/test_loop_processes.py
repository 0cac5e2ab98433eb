"""Several processes: the same global batch gives the same weights, whether each has a copy of the model or a share."""

import multiprocessing
import os
import socket

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import Linear

from support.small_world import config_for
from training.errors import TrainingError
from training.loop.checkpoints import list_checkpoints
from training.loop.parallel import distribute
from training.planner.objective import Batch

STEPS = 3
CLOSE = {"rtol": 1e-3, "atol": 1e-4}
"""Three steps move a weight by about 1e-2. Adam divides by the gradient's own size, so where that is next to nothing
its rounding counts: one weight in thousands may be off by a hundredth of a step."""


def train_as(config, process, processes, port):
    """One process of a launcher, by the variables that torchrun and accelerate set."""
    os.environ |= {
        "RANK": str(process), "LOCAL_RANK": str(process), "WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    from training.planner.train import train

    train(config)


def launch(config, processes):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["training.planner.train"])
    started = [context.Process(target=train_as, args=(config, n, processes, port)) for n in range(processes)]
    for process in started:
        process.start()
    for process in started:
        process.join()
    assert [process.exitcode for process in started] == [0] * processes
    checkpoint = list_checkpoints(config.train.out)[-1]
    return {part: load_file(checkpoint / f"{part}.safetensors") for part in ("weights", "averaged", "optimizer")}


def config_of(world, folder, **values):
    common = {"max_steps": STEPS, "ema_decay": 0.5, "save_every": 2, "threads": 1, "device": "cpu"}
    objective = {"guidance": (1.0, 4.0), "caption_dropout": 0.3, "condition_dropout": 0.3, "motion_weight": 1.0}
    return config_for(world, out=folder, objective=objective, **common, **values)


@pytest.fixture(scope="module")
def alone(world, tmp_path_factory):
    return launch(config_of(world, tmp_path_factory.mktemp("alone"), batch_size=4), 1)


@pytest.mark.parametrize("shard", [False, True])
def test_two_processes_train_as_one(world, alone, tmp_path, shard):
    together = launch(config_of(world, tmp_path / "run", batch_size=2, shard=shard), 2)
    for part, expected in alone.items():
        assert together[part].keys() == expected.keys()
        for name, value in expected.items():
            assert together[part][name].shape == value.shape
            assert torch.allclose(together[part][name], value, **CLOSE), (part, name)
    assert any(value.abs().max() > 1e-3 for name, value in alone["weights"].items() if ".lora_B." in name)


def test_a_shared_run_goes_on_from_its_checkpoint(world, alone, tmp_path):
    """Stopped after two steps with two processes that share the weights, finished by one that has them all."""
    folder = tmp_path / "run"
    launch(config_of(world, folder, batch_size=2, shard=True), 2)
    for checkpoint in list_checkpoints(folder)[1:]:
        for file in checkpoint.iterdir():
            file.unlink()
        checkpoint.rmdir()
    assert [path.name for path in list_checkpoints(folder)] == ["00000002"]
    finished = launch(config_of(world, folder, batch_size=4), 1)
    for name, value in alone["weights"].items():
        assert torch.allclose(finished["weights"][name], value, **CLOSE), name


def test_processes_draw_one_batch_together(world):
    from training.cache.mixture import Mixture
    from training.planner.batches import CachedPairs

    section = config_of(world, world / "unused", batch_size=4).train
    half = section.model_copy(update={"batch_size": 2})
    mixture = Mixture.open(world / "cache")
    whole: Batch = CachedPairs(mixture, section).batch(5, torch.device("cpu"))
    parts = [CachedPairs(mixture, half, share=(n, 2)).batch(5, torch.device("cpu")) for n in range(2)]
    for name in ("target", "condition", "text", "pooled"):
        assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(whole, name))


def test_sharing_out_needs_several_processes_and_plain_weights():
    class One:
        num_processes, distributed_type = 1, "NO"

    with pytest.raises(TrainingError, match="shard: true needs several processes"):
        distribute(Linear(2, 2), One(), shard=True)

    class Two(One):
        num_processes = 2

    packed = Linear(2, 2)
    packed.weight = torch.nn.Parameter(torch.zeros(2, 2, dtype=torch.uint8), requires_grad=False)
    with pytest.raises(TrainingError, match=r"cannot shard quantised weights \(weight\): set quantize to none"):
        distribute(packed, Two(), shard=True)

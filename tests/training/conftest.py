"""Fixtures of the training tests."""

# Before any test renders: importing Triton, which diffusers does, crashes a process in which Mesa has loaded its LLVM.
import diffusers  # noqa: F401
import pytest
import torch

from support.small_world import config_for, write_episodes


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """Folder with episodes, an untrained base (made by the pretrain command in one step), pairs and cache."""
    from training.cache.write import cache
    from training.data.prepare import prepare
    from training.tiny_base.pretrain import pretrain
    from training.tiny_base.vae import train_vae

    folder = tmp_path_factory.mktemp("world")
    write_episodes(folder / "episodes")
    write_episodes(folder / "play", "play")
    config = config_for(folder)
    torch.manual_seed(0)
    train_vae(config)
    pretrain(config)
    prepare(config)
    cache(config)
    return folder


@pytest.fixture(scope="module")
def toy():
    """The toy world, registered as docs/maintaining/add_a_world.md says, and open."""
    from worlds.registry import WORLDS, open_world

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(WORLDS, "toy", "support.toy_world:ToyWorld")
        with open_world("toy", 32) as made:
            yield made


@pytest.fixture(scope="module")
def asked(toy):
    """The requests of the toy world's scenes, demonstrated in nine frames."""
    from training.evaluation.closed_loop.evaluation import draw_all
    from training.evaluation.closed_loop.settings import Settings

    return draw_all(toy, Settings(world="toy", cameras=("above",)), 9)

"""How long a run lasts, and the noise levels it sees."""

import pytest
import torch

from support.small_world import config_for
from training.loop.checkpoints import list_checkpoints
from training.planner.objective import draw_sigma
from training.planner.train import train
from training.sections.run import ObjectiveSection


@pytest.mark.parametrize(("epochs", "accumulated", "steps"), [(1.0, 1, 6), (0.5, 1, 3), (1.0, 2, 3), (9.0, 1, 7)])
def test_epochs_end_a_run(world, tmp_path, epochs, accumulated, steps):
    """Twelve pairs to train on, two at once, seven steps at most."""
    values = {"max_steps": 7, "max_epochs": epochs, "gradient_accumulation": accumulated}
    train(config_for(world, out=tmp_path / "run", **values))
    assert list_checkpoints(tmp_path / "run")[-1].name == f"{steps:08d}"


def test_noise_levels_follow_their_distribution():
    def draw(**values):
        return draw_sigma(20_000, ObjectiveSection(**values), torch.Generator().manual_seed(0))

    uniform, shifted = draw(), draw(timesteps="shifted", shift=3.0)
    normal = draw(timesteps="logit_normal", logit_mean=1.0)
    assert uniform.mean() == pytest.approx(0.5, abs=0.01)
    # the median of u is 1/2, and the shift maps it to shift / (1 + shift)
    assert shifted.median() == pytest.approx(0.75, abs=0.01)
    assert normal.median() == pytest.approx(torch.sigmoid(torch.tensor(1.0)).item(), abs=0.01)
    assert torch.equal(draw(timesteps="shifted", shift=1.0), uniform)
    assert all(level.min() > 0 and level.max() < 1 for level in (uniform, shifted, normal))

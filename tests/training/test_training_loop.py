"""The loop: a stopped run that goes on ends with the very weights of one that was never stopped."""

import json
import os
import signal

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import Linear

from training.errors import TrainingError
from training.loop.checkpoints import clean_up, list_checkpoints, load_checkpoint
from training.loop.loop import Loop, make_accelerator
from training.loop.randomness import step_generator
from training.sections.run import RunSection


class Net(torch.nn.Module):
    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.hidden = Linear(4, width)
        self.proj_out = Linear(width, 1)

    def forward(self, x):
        return self.proj_out(torch.tanh(self.hidden(x)))


def loss_of(model, index, generator):
    x = torch.randn(16, 4, generator=step_generator(99, index))
    noise = 0.01 * torch.randn(16, 1, generator=generator)
    return (model(x) - x.sum(1, keepdim=True) + noise).square().mean()


def section(folder, **values):
    optimizer = {
        "name": "muon",
        "learning_rate": 0.01,
        "muon_learning_rate": 0.01,
        "warmup_steps": 3,
        "decay_steps": 10,
    }
    values = {"max_steps": 30, "save_every": 7, "log_every": 1, "ema_decay": 0.9, "optimizer": optimizer, **values}
    return RunSection.model_validate({"out": folder, **values})


def run(folder, net=Net, loss=loss_of, **values):
    torch.manual_seed(0)
    part = section(folder, **values)
    loop = Loop(part, net(), loss, make_accelerator(part, "cpu"))
    loop.resume()
    return loop, loop.run()


def final(folder):
    return load_file(list_checkpoints(folder)[-1] / "weights.safetensors"), load_file(
        list_checkpoints(folder)[-1] / "averaged.safetensors"
    )


def test_it_learns(tmp_path):
    _, finished = run(tmp_path, max_steps=150)
    assert finished
    losses = [json.loads(line)["loss"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert len(losses) == 150
    assert sum(losses[-10:]) < 0.2 * sum(losses[:10])


def test_the_log_has_the_mean_loss_of_the_steps_since_its_last_line(tmp_path):
    constant = {"learning_rate": 0.01, "decay_steps": 0}

    def logged(name, **values):
        run(tmp_path / name, optimizer=constant, **values)
        return [json.loads(line)["loss"] for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]

    each = logged("each", max_steps=20)
    means = [sum(each[start : start + 5]) / 5 for start in range(0, 20, 5)]
    assert logged("fives", max_steps=20, log_every=5) == pytest.approx(means, rel=1e-6)
    assert len(set(each[:5])) > 1
    run(tmp_path / "stopped", optimizer=constant, max_steps=7, log_every=5)  # in the middle of a line's steps
    assert logged("stopped", max_steps=20, log_every=5) == pytest.approx(means, rel=1e-6)


def test_a_run_stopped_anywhere_goes_on_to_the_same_weights(tmp_path):
    run(tmp_path / "whole")
    expected = final(tmp_path / "whole")

    class Killed(Exception):
        pass

    for number, stop_at in enumerate((3, 7, 20, 29)):
        folder = tmp_path / f"stopped{number}"

        def dying(model, index, generator, stop_at=stop_at):
            if index == stop_at:
                raise Killed
            return loss_of(model, index, generator)

        with pytest.raises(Killed):
            run(folder, loss=dying)
        loop, finished = run(folder)
        assert finished
        assert loop.step == 30
        for got, want in zip(final(folder), expected, strict=True):
            assert got.keys() == want.keys()
            assert all(torch.equal(got[name], want[name]) for name in want)
        steps = [json.loads(line)["step"] for line in (folder / "log.jsonl").read_text().splitlines()]
        assert steps == list(range(1, 31))


def test_only_the_last_checkpoints_stay_and_nothing_unfinished(tmp_path):
    loop, _ = run(tmp_path, keep=2)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["00000028", "00000030"]
    (tmp_path / "checkpoints" / ".00000035.part").mkdir()
    (tmp_path / ".log.jsonl.x.part").write_text("half")
    assert len(list_checkpoints(tmp_path)) == 2
    clean_up(tmp_path)
    assert not list(tmp_path.glob(".*"))
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["00000028", "00000030"]
    assert loop.step == 30


def test_the_time_limit_stops_and_saves(tmp_path):
    loop, finished = run(tmp_path, max_hours=1e-9)
    assert not finished
    loop.save()
    assert load_checkpoint(list_checkpoints(tmp_path)[-1])[1]["step"] == loop.step


def test_a_run_by_the_clock_decays_and_ends_when_its_time_is_over(tmp_path, monkeypatch):
    monkeypatch.setattr(Loop, "_taken", lambda self, seconds: 3.6)
    optimizer = {"learning_rate": 0.01, "decay_hours": 0.0045}
    by_clock = {"run_hours": 0.0095, "max_steps": 1000, "optimizer": optimizer}

    def interrupted(model, index, generator):
        if index == 5:
            os.kill(os.getpid(), signal.SIGINT)
        return loss_of(model, index, generator)

    loop, finished = run(tmp_path, loss=interrupted, **by_clock)
    assert (loop.step, finished) == (6, False)
    loop, finished = run(tmp_path, **by_clock)
    assert (loop.step, finished) == (10, True), "the time of both starts counts"
    rates = [line["rate"] for line in map(json.loads, (tmp_path / "log.jsonl").read_text().splitlines())]
    expected = [min(1.0, (0.0095 - 0.001 * step) / 0.0045) for step in range(10)]
    assert rates == pytest.approx(expected)
    assert run(tmp_path, **by_clock)[0].step == 10, "a finished run goes on"


@pytest.mark.parametrize("values", [{}, {"run_hours": 0.5}])
def test_a_decay_longer_than_the_run_is_refused(tmp_path, values):
    with pytest.raises(ValueError, match=r"decay_hours must be at most run_hours \((None|0\.5)\), got 1"):
        section(tmp_path, optimizer={"decay_hours": 1.0}, **values)


def test_ctrl_c_ends_the_step_saves_and_goes_on(tmp_path):
    run(tmp_path / "whole")

    def interrupted(model, index, generator):
        if index == 10:
            os.kill(os.getpid(), signal.SIGINT)
        return loss_of(model, index, generator)

    before = signal.getsignal(signal.SIGINT)
    loop, finished = run(tmp_path / "stopped", loss=interrupted)
    assert not finished
    assert loop.step == 11
    assert list_checkpoints(tmp_path / "stopped")[-1].name == "00000011"
    assert signal.getsignal(signal.SIGINT) is before
    run(tmp_path / "stopped")
    for got, want in zip(final(tmp_path / "stopped"), final(tmp_path / "whole"), strict=True):
        assert all(torch.equal(got[name], want[name]) for name in want)


def test_scaled_losses_give_the_steps_of_plain_ones(tmp_path):
    """Half precision scales the loss: gradients are brought back before they are clipped, and the scale is resumed."""
    run(tmp_path / "plain")

    def scaled(steps):
        torch.manual_seed(0)
        part = section(tmp_path / "scaled", max_steps=steps)
        accelerator = make_accelerator(part, "cpu")
        accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12, growth_interval=9)
        loop = Loop(part, Net(), loss_of, accelerator)
        loop.resume()
        scale = accelerator.scaler.get_scale()
        # the rate falls towards the end of a run: let both runs have the same end
        loop.section = section(tmp_path / "scaled", max_steps=30)
        while loop.step < steps:
            loop.one_step()
        loop.save()
        return scale

    assert scaled(20) == 2.0**12
    assert scaled(30) == 2.0**14  # it has grown twice, and was not forgotten
    got, want = final(tmp_path / "scaled")[0], final(tmp_path / "plain")[0]
    assert all(torch.allclose(got[name], want[name], atol=1e-6) for name in want)


def test_validation_comes_before_the_first_step_and_between(tmp_path):
    called = []
    part = section(tmp_path)
    torch.manual_seed(0)
    accelerator = make_accelerator(part, "cpu")
    loop = Loop(part, Net(), loss_of, accelerator, lambda loop: called.append(loop.step) or {"seen": 1.0}, 10)
    loop.run()
    assert called == [0, 10, 20, 30]
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "seen" in line] == called


def test_a_full_disk_leaves_the_older_checkpoint(tmp_path, monkeypatch):
    run(tmp_path, max_steps=7)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("training.loop.checkpoints.save_file", full)
    with pytest.raises(TrainingError, match=r"checkpoint .*00000014 cannot be written: No space left on device"):
        run(tmp_path)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["00000007"]


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    run(tmp_path)
    with pytest.raises(TrainingError, match="belongs to another model"):
        run(tmp_path, net=lambda: Net(9))


def test_a_truncated_checkpoint_is_named(tmp_path):
    run(tmp_path)
    file = list_checkpoints(tmp_path)[-1] / "weights.safetensors"
    file.write_bytes(file.read_bytes()[:20])
    with pytest.raises(TrainingError, match=r"checkpoint file .*weights\.safetensors cannot be read"):
        run(tmp_path)


def test_a_loss_that_is_not_a_number_stops_the_run(tmp_path):
    def broken(model, index, generator):
        return loss_of(model, index, generator) * float("nan")

    with pytest.raises(TrainingError, match="the loss became nan at step 0"):
        run(tmp_path, loss=broken)
    assert list_checkpoints(tmp_path) == []


def test_nothing_to_train_is_an_error(tmp_path):
    def frozen():
        return Net().requires_grad_(False)

    with pytest.raises(TrainingError, match="nothing to train"):
        run(tmp_path, net=frozen)

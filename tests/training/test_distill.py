"""Distillation: the student is led where its teacher goes, and its file says for how many steps it was made."""

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import autocast

from support.small_world import config_for
from training.errors import TrainingError
from training.loop.checkpoints import latest_checkpoint
from training.model.sampling import draw_noise, sample
from training.planner.distill import Teacher, distill, make_distillation, teacher_levels
from training.planner.export import export
from training.planner.train import make_parts, train
from training.sections.config import Config
from visual_planner.planner.conditioning import add_noise, pack_latents, unpack_latents
from visual_planner.planner.spec import PlannerSpec

TEACHER_STEPS = 8


@pytest.fixture(scope="module")
def taught(world, tmp_path_factory):
    """A folder with a teacher: a LoRA of some large steps, so that its plans are no straight lines."""
    folder = tmp_path_factory.mktemp("distill")
    config = config_for(world, out=folder / "teacher_run", max_steps=12)
    config.export.out = folder / "teacher.safetensors"
    train(config)
    export(config)
    return folder


@pytest.fixture
def config_of(world, taught):
    """A function (name of the run, changes of its section) -> configuration of a distillation to one step."""

    def make(out="student", **changes) -> Config:
        values = config_for(world).model_dump(exclude_none=True)
        section = values.pop("train") | {"out": taught / out, "max_steps": 2, "teacher_steps": TEACHER_STEPS}
        section |= {"student_steps": 1} | changes
        section["lora"] = {"init": taught / "teacher.safetensors"} | section["lora"]
        values["export"] |= {"run": taught / out, "out": taught / f"{out}.safetensors"}
        return Config.model_validate(values | {"distill": section})

    return make


def first_batch(parts):
    """A batch, its noise, its packed condition and the guidance to embed."""
    batch = parts.pairs.batch(0, torch.device("cpu"))
    noise = draw_noise(parts.mixture.spec, list(range(len(batch.target))))
    guidance = torch.full((len(noise),), parts.mixture.spec.guidance) if parts.guidance_embedded else None
    return batch, noise, pack_latents(batch.condition), guidance


@pytest.mark.parametrize("cfg", [1.0, 3.0])
@pytest.mark.parametrize("steps", [1, 4])
def test_a_step_of_the_student_ends_where_the_plan_of_the_teacher_is(config_of, steps, cfg):
    config = config_of(student_steps=steps)
    spec, section = config.planner_spec(), config.distill
    parts = make_parts(config, section)
    words, vector = parts.mixture.text(parts.mixture.pairs[0], dropped=True)
    empty = words[None], vector[None]
    teacher = Teacher(parts.transformer, parts.in_context, teacher_levels(spec, section), cfg, empty)
    batch, noise, condition, guidance = first_batch(parts)
    tokens, levels = pack_latents(noise), teacher.levels
    for step in range(steps):
        numbers = torch.full((len(noise),), step)
        velocity = teacher.velocity(tokens, condition, batch, numbers, guidance)
        tokens = tokens + (levels[step, -1] - levels[step, 0]) * velocity
    asked = noise, batch.condition, batch.text, batch.pooled
    plan = sample(parts.transformer, parts.in_context, spec, *asked, steps=TEACHER_STEPS, cfg=cfg, empty=empty)
    assert (unpack_latents(tokens, *noise.shape[-2:]) - plan).abs().max() < 1e-4
    fewer = sample(parts.transformer, parts.in_context, spec, *asked, steps=steps, cfg=1.0)
    assert (fewer - plan).abs().max() > 1e-2, "the teacher's plan is a straight line: nothing is tested"


def test_the_student_comes_nearer_to_the_teacher(config_of):
    loop = make_distillation(config_of("nearer", max_steps=30, batch_size=4, optimizer={"learning_rate": 2e-3}))
    parts = make_parts(config_of("nearer"), config_of("nearer").distill)
    spec = parts.mixture.spec
    batch, noise, _, _ = first_batch(parts)
    asked = noise, batch.condition, batch.text, batch.pooled
    plan = sample(parts.transformer, parts.in_context, spec, *asked, steps=TEACHER_STEPS)

    def distance() -> float:
        made = sample(loop.model, parts.in_context, spec, *asked, steps=1)
        return (made - plan).square().mean().item()

    before = distance()
    loop.run()
    assert distance() < 0.5 * before


@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")  # norms stay in float32
def test_the_teacher_keeps_its_weights_under_autocast(config_of):
    config = config_of()
    parts = make_parts(config, config.distill)
    teacher = Teacher(parts.transformer, parts.in_context, teacher_levels(config.planner_spec(), config.distill))
    batch, noise, condition, guidance = first_batch(parts)
    tokens, step = pack_latents(noise), torch.zeros(len(noise), dtype=torch.long)

    def velocities() -> tuple[torch.Tensor, torch.Tensor]:
        with autocast("cpu", torch.bfloat16):
            led = teacher.velocity(tokens, condition, batch, step, guidance)
            level = teacher.levels[step, 0]
            own = parts.in_context(parts.transformer, tokens, condition, batch.text, batch.pooled, level, guidance)
            return led, own.detach()

    led, own = velocities()
    with torch.no_grad():
        for parameter in parts.transformer.parameters():
            if parameter.requires_grad:
                parameter.mul_(1.5)
    led_later, own_later = velocities()
    assert torch.equal(led, led_later)
    assert not torch.allclose(own, own_later)


def test_the_file_says_how_many_steps_it_is_for(config_of):
    config = config_of("recorded")
    distill(config)
    export(config)
    with safe_open(config.export.out, "pt") as opened:
        spec = PlannerSpec.from_metadata(opened.metadata())
    assert (spec.steps, spec.execution_steps, spec.cfg) == (1, 1, 1.0)
    for name, value in {"student_steps": 2, "teacher_steps": 4, "seed": 5}.items():
        with pytest.raises(TrainingError, match=rf"distill\.{name} must be"):
            export(config_of("recorded", **{name: value}))


def test_a_stopped_distillation_goes_on_exactly_and_with_its_own_teacher(config_of, taught):
    distill(config_of("whole"))
    distill(config_of("stopped", max_steps=1))
    distill(config_of("stopped"))
    whole, stopped = (
        load_file(latest_checkpoint(taught / name) / "weights.safetensors") for name in ("whole", "stopped")
    )
    assert whole.keys() == stopped.keys()
    assert all(torch.equal(whole[name], stopped[name]) for name in whole)
    other = {name: 2 * tensor for name, tensor in load_file(taught / "teacher.safetensors").items()}
    with safe_open(taught / "teacher.safetensors", "pt") as opened:
        save_file(other, taught / "other.safetensors", opened.metadata())
    config = config_of("stopped", max_steps=3)
    config.distill.lora.init = taught / "other.safetensors"
    with pytest.raises(TrainingError, match=r"distill\.lora\.init has other contents"):
        distill(config)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"student_steps": 3}, r"student_steps must divide the teacher's 8 steps, got 3"),
        ({"student_steps": 8}, r"student_steps must be fewer than the teacher's 8, got 8"),
        ({"shard": True}, r"distill\.shard must be false"),
        ({"objective": {"decoded_weight": 1.0}}, r"distill\.objective\.decoded_weight must be 0"),
    ],
)
def test_what_cannot_be_distilled_is_refused(config_of, changes, message):
    with pytest.raises(TrainingError, match=message):
        make_distillation(config_of("refused", **changes))


def test_a_teacher_is_needed(config_of):
    config = config_of("refused")
    config.distill.lora.init = None
    with pytest.raises(TrainingError, match=r"distill\.lora\.init must name the exported LoRA of the teacher"):
        make_distillation(config)


def test_each_example_goes_from_its_own_level(config_of):
    """Examples of different steps in one batch: the same as each by itself."""
    config = config_of(student_steps=2)
    parts = make_parts(config, config.distill)
    teacher = Teacher(parts.transformer, parts.in_context, teacher_levels(config.planner_spec(), config.distill))
    batch, noise, condition, guidance = first_batch(parts)
    step = torch.tensor([0, 1])
    tokens = add_noise(pack_latents(batch.target), pack_latents(noise), teacher.levels[step, 0])
    together = teacher.velocity(tokens, condition, batch, step, guidance)
    for number in range(2):
        alone = teacher.velocity(tokens, condition, batch, torch.full((2,), number), guidance)
        assert torch.allclose(together[number], alone[number], atol=1e-5)
    assert not torch.allclose(together[0], teacher.velocity(tokens, condition, batch, 1 - step, guidance)[0], atol=1e-3)

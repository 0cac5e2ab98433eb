"""The sections of a configuration that every training has: the loop, its objective and its optimizer."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from .data import Positive, Section, Stream

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]


def ascending(values: tuple[float, float]) -> tuple[float, float]:
    """A range, from its smaller to its larger value.

    Raises:
        ValueError: the order is reversed.
    """
    if values[0] > values[1]:
        raise ValueError(f"must be a range from its smaller to its larger value, got {values[0]:g} to {values[1]:g}")
    return values


class OptimizerSection(Section):
    """How weights follow gradients."""

    name: Literal["adamw", "adamw8bit", "prodigy", "muon"] = Field(
        "adamw",
        description="adamw8bit: state in 8 bits (bitsandbytes); prodigy: finds its own rate (prodigyopt, "
        "learning_rate 1); muon: Muon for hidden matrices, AdamW for the rest",
    )
    learning_rate: Annotated[float, Field(gt=0)] = Field(1e-4, description="learning rate of everything but Muon")
    muon_learning_rate: Annotated[float, Field(gt=0)] = Field(
        0.02, description="learning rate of Muon, per unit spectral norm"
    )
    betas: tuple[Fraction, Fraction] = Field((0.9, 0.999), description="of AdamW")
    weight_decay: Annotated[float, Field(ge=0)] = Field(0.0, description="decoupled")
    max_grad_norm: Annotated[float, Field(gt=0)] = Field(1.0, description="gradients are clipped to this norm")
    warmup_steps: Annotated[int, Field(ge=0)] = Field(0, description="steps of linear warm-up")
    decay_steps: Annotated[int, Field(ge=0)] = Field(
        0, description="final steps over which the learning rate decays to zero"
    )
    decay_hours: Annotated[float, Field(ge=0)] = Field(
        0.0, description="final hours of run_hours over which the learning rate decays to zero"
    )


class ObjectiveSection(Section):
    """Flow matching: which noise levels, which weights."""

    timesteps: Literal["uniform", "logit_normal", "shifted"] = Field(
        "uniform", description="distribution of the noise level s"
    )
    shift: Annotated[float, Field(gt=0)] = Field(
        3.0, description="shifted: s = shift u / (1 + (shift - 1) u), u uniform; a larger value means more noise"
    )
    logit_mean: float = Field(0.0, description="logit_normal: s = sigmoid(N(mean, std))")
    logit_std: Annotated[float, Field(gt=0)] = Field(1.0, description="logit_normal: s = sigmoid(N(mean, std))")
    motion_weight: Annotated[float, Field(ge=0)] = Field(
        0.0, description="extra loss weight of latents that differ from the first frame's (0: plain mean squared error)"
    )
    end_effector_weight: Annotated[float, Field(ge=0)] = Field(
        0.0, description="extra loss weight of latents around the end effector, where `prepare` knows its place"
    )
    end_effector_radius: Annotated[float, Field(gt=0)] = Field(
        0.15, description="standard deviation of that neighbourhood, in heights of a cell"
    )
    decoded_weight: Annotated[float, Field(ge=0)] = Field(
        0.0,
        description="weight of the error of decoded frames, beside that of latents: one frame of each grid goes "
        "through the base's decoder (`train` alone)",
    )
    guidance: Annotated[tuple[float, float], AfterValidator(ascending)] = Field(
        (1.0, 1.0), description="guidance embedded in training: range, drawn uniformly"
    )
    caption_dropout: Fraction = Field(0.0, description="fraction of examples whose prompt is replaced by the empty one")
    condition_dropout: Fraction = Field(
        0.0, description="fraction of examples whose condition latent is replaced by zeros"
    )


class RunSection(Section):
    """The loop: how long, how often saved."""

    out: Path = Field(description="folder of the run: checkpoints, log, resolved configuration")
    seed: Stream = Field(0, description="seed of weights, data order and noise")
    batch_size: Positive = Field(1, description="examples per step and process")
    max_steps: Positive = Field(1000, description="steps of the whole run")
    max_hours: Annotated[float, Field(gt=0)] | None = Field(None, description="stop (and save) after this time")
    run_hours: Annotated[float, Field(gt=0)] | None = Field(
        None,
        description="hours of training of the whole run, over all its starts: it ends then, or at max_steps; with "
        "optimizer.decay_hours for time that is rented",
    )
    save_every: Positive = Field(500, description="steps between checkpoints")
    log_every: Positive = Field(10, description="steps between log lines, over which their loss is the mean")
    keep: Positive = Field(2, description="checkpoints kept")
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = Field(0.0, description="decay of the EMA weights (0: none)")
    mixed_precision: Literal["no", "bf16", "fp16", "auto"] = Field(
        "no",
        description="autocast of the forward pass; auto: bf16 where the hardware multiplies it (GPUs, CPUs with "
        "AVX-512 BF16 or AMX), otherwise no",
    )
    matmul_precision: Literal["highest", "high", "medium"] = Field(
        "highest",
        description="products of float32 matrices, as torch.set_float32_matmul_precision has it: high allows TF32 on a "
        "GPU, medium also bfloat16 products; on a CPU medium takes oneDNN's kernels, which are often faster",
    )
    gradient_accumulation: Positive = Field(1, description="batches accumulated per step")
    threads: Annotated[int, Field(ge=0)] = Field(0, description="CPU threads (0: torch's default)")
    changes: list[str] = Field(
        default_factory=list,
        description="settings in which a resumed run may differ from its own record (such as optimizer.learning_rate); "
        "each change is noted in the record",
    )
    tensorboard: bool = Field(False, description="also write TensorBoard events to the run's folder")
    optimizer: OptimizerSection = Field(default_factory=OptimizerSection)
    objective: ObjectiveSection = Field(default_factory=ObjectiveSection)

    @model_validator(mode="after")
    def _decays_within_the_run(self) -> "RunSection":
        decay = self.optimizer.decay_hours
        if decay and (self.run_hours is None or decay > self.run_hours):
            raise ValueError(f"optimizer.decay_hours must be at most run_hours ({self.run_hours}), got {decay:g}")
        return self

"""The section of a configuration that trains a planner further on what it executed."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from visual_planner.planner.prompts import MODES

from .data import Positive, Section, Stream

Weight = Annotated[float, Field(ge=0)]


class ImproveSection(Section):
    """Plan, execute, keep what succeeded, train on; again while held-out success rises."""

    out: Path = Field(description="folder of the rounds, their results and the best LoRA")
    lora: Path = Field(description="planner LoRA to start from")
    world: str = Field("jaco", description="where plans are executed")
    readout: Path | None = Field(None, description="folder of the read-out (default: the world's)")
    modes: list[Literal[MODES]] = Field(default_factory=list, description="modes of planning (default: the planner's)")
    wordings: str = Field("train", description="phrasings of the instructions, one of the world's sets")
    rounds: Positive = Field(4, description="rounds at most")
    first_seed: Stream = Field(description="seed of the first scene to plan in; each round takes the seeds that follow")
    scenes: Positive = Field(400, description="scenes per round, as the world counts them")
    plans: Positive = Field(2, description="plans per request at most; the first that succeeds is kept")
    held_out_seed: Stream = Field(description="seed of the first scene that decides when to stop")
    held_out_scenes: Positive = Field(48, description="number of these scenes, as the world counts them")
    earlier: Weight = Field(2.0, description="sampling weight of what train.cache names")
    executed: Weight = Field(1.0, description="sampling weight of all plans that succeeded, as executed")
    failed: Weight = Field(
        1.0, description="sampling weight of the world's demonstrations where no plan succeeded (0: none are made)"
    )
    batch_size: Positive = Field(16, description="plans generated at once")

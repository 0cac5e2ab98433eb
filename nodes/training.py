"""Training nodes: one makes or encodes a data set, one trains a planner LoRA on it, both beside ComfyUI's process."""

import numpy as np
import torch
from comfy_api.latest import io

from .comfy.lora import lora
from .comfy.training import training_data, training_folders, training_run
from .comfy.training.training_data import SOURCES
from .wires import look, schema

ComboText = io.Custom("COMBO")
"""A text that another node's combo accepts; ComfyUI's own combo output has no such type before a run."""
LONGEST_RUN = 10_000_000


def recipe_input() -> io.Combo.Input:
    """The configuration of a training."""
    return io.Combo.Input(
        "recipe",
        options=list(training_folders.recipes()),
        default=training_data.TINY_RECIPE,
        tooltip="Configuration of the training: one that comes with the plugin, or a YAML file in "
        "user/__visual_planner/training/recipes of ComfyUI.",
    )


class VisualPlannerTrainingData(io.ComfyNode):
    """A data set that Train Planner can train on: simulated, or the recipe's own episodes."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The node's inputs and outputs."""
        return schema(
            "VisualPlannerTrainingData",
            "Training Data (Visual Planner)",
            "training",
            description="Makes a data set for Train Planner in a process beside ComfyUI: episodes of the simulator, or "
            "those that the recipe names, prepared and encoded. A data set that is finished is used as it is.",
            search_aliases=["dataset", "episodes", "demonstrations", "cache"],
            is_output_node=True,
            inputs=[
                recipe_input(),
                io.String.Input("name", default="simulated", tooltip="Name of the data set."),
                io.Combo.Input(
                    "source",
                    options=list(SOURCES),
                    default=SOURCES[0],
                    tooltip="simulated: demonstrations of the simulated arm; from the recipe: the episodes that its "
                    "section prepare names.",
                ),
                io.Int.Input(
                    "episodes",
                    default=200,
                    min=2,
                    max=1_000_000,
                    tooltip="Number of simulated episodes; of the recipe's own, at most so many are used.",
                ),
                io.Int.Input(
                    "held_out",
                    default=8,
                    min=0,
                    max=100_000,
                    tooltip="How many of the episodes are not trained on but used for validation.",
                ),
                io.Int.Input(
                    "data_seed",
                    default=1,
                    min=0,
                    max=8_000_000,
                    tooltip="Seed of the simulated episodes.",
                ),
            ],
            outputs=[
                ComboText.Output("made", display_name="data", tooltip="Name of the data set, for Train Planner."),
                io.Image.Output("sheet", display_name="sheet", tooltip="Some of its episodes."),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, recipe: str | None, name: str | None, **_: object) -> tuple:
        """Run again when the recipe changes or the data set is missing."""
        return training_data.fingerprint(recipe, name)

    @classmethod
    def execute(
        cls, recipe: str, name: str, source: str, episodes: int, held_out: int, data_seed: int
    ) -> io.NodeOutput:
        """Make its missing parts."""
        wanted = training_data.Wanted(recipe, name, source, episodes, held_out, data_seed)
        sheet = training_data.make(wanted)
        shown = None if sheet is None else _pictures([sheet])
        return io.NodeOutput(name, _or_nothing(shown), ui=look(cls, shown, training_data.summary(name)))


class VisualPlannerTrain(io.ComfyNode):
    """A planner LoRA, trained beside ComfyUI's process and installed."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The node's inputs and outputs."""
        return schema(
            "VisualPlannerTrain",
            "Train Planner (Visual Planner)",
            "training",
            description="Trains a planner LoRA in a process beside ComfyUI, shows its loss curve and plans meanwhile, "
            "and installs the result for Load Planner LoRA. Cancel saves and stops; the next run resumes.",
            search_aliases=["train lora", "training", "finetune"],
            is_output_node=True,
            inputs=[
                recipe_input(),
                io.Combo.Input(
                    "data",
                    options=[training_folders.FROM_RECIPE, *training_folders.data_names()],
                    default=training_folders.FROM_RECIPE,
                    tooltip="What to train on: a data set of Training Data, or the caches that the recipe names.",
                ),
                io.String.Input(
                    "name", default="my_planner", tooltip="Name of the run and of the LoRA that is installed."
                ),
                io.Int.Input(
                    "steps",
                    default=1000,
                    min=1,
                    max=LONGEST_RUN,
                    tooltip="Steps of the whole run, those of earlier runs under this name included.",
                ),
                io.Int.Input(
                    "validate_every",
                    default=100,
                    min=0,
                    max=LONGEST_RUN,
                    tooltip="Steps between plans of held-out scenes, which are shown beside the truth; 0: none.",
                ),
                io.Combo.Input(
                    "start_lora",
                    options=[lora.NONE, *lora.lora_names()],
                    default=lora.NONE,
                    tooltip="Planner LoRA of the same layers and rank to start from; none: start from the base alone.",
                ),
                io.String.Input(
                    "changes",
                    optional=True,
                    multiline=True,
                    default="",
                    tooltip="Changes to the recipe's section train, one per line: train.batch_size=2.",
                ),
            ],
            outputs=[
                ComboText.Output(
                    "trained", display_name="lora_name", tooltip="Name of the LoRA, for Load Planner LoRA."
                ),
                io.Image.Output("curve", display_name="loss curve", tooltip="The picture that the node shows."),
                io.Image.Output(
                    "plans", display_name="plans", tooltip="Grids of the newest validation, without the truth."
                ),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, recipe: str | None, name: str | None, **_: object) -> tuple:
        """Run again when the recipe or the installed LoRA changes."""
        return training_run.fingerprint(recipe, name)

    @classmethod
    def execute(
        cls,
        recipe: str,
        data: str,
        name: str,
        steps: int,
        validate_every: int,
        start_lora: str,
        changes: str = "",
    ) -> io.NodeOutput:
        """Train, export, install."""
        wanted = training_run.Wanted(recipe, data, name, steps, validate_every, start_lora, changes)
        done = training_run.train(wanted)
        curve, plans = _pictures([done.picture]), _pictures(done.plans) if done.plans else None
        shown = look(cls, curve, done.text, enlarge=False)
        return io.NodeOutput(done.lora_name, curve, _or_nothing(plans), ui=shown)


def _pictures(pixels: list[np.ndarray]) -> torch.Tensor:
    """Pictures (H, W, 3) uint8 of one size as ComfyUI's (B, H, W, 3) float32 in [0, 1]."""
    return torch.from_numpy(np.stack(pixels)).float() / 255


def _or_nothing(pictures: torch.Tensor | None):
    """Pictures for an output; without any, the nodes after it do not run."""
    from comfy_execution.graph_utils import ExecutionBlocker

    return ExecutionBlocker(None) if pictures is None else pictures

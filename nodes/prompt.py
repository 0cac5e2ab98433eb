"""Node of the prompt."""

from comfy_api.latest import io

from ..visual_planner.planner.prompts import MODES, build_prompt
from ..visual_planner.planner.spec import PlannerSpec
from .wires import PlannerSpecType, look, schema, warn


class VisualPlannerPrompt(io.ComfyNode):
    """The sentence that a planner was trained with, around the user's instruction."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The node's inputs and outputs."""
        return schema(
            "VisualPlannerPrompt",
            "Planner Prompt (Visual Planner)",
            "plan",
            description="Inserts the instruction into the sentence that the planner was trained with. Without that "
            "sentence planners fail.",
            search_aliases=["instruction", "task prompt", "robot prompt"],
            inputs=[
                io.Combo.Input(
                    "mode",
                    options=list(MODES),
                    default="text",
                    tooltip="text: the instruction alone; trajectory: the path drawn on the first frame alone, the "
                    "instruction is ignored; both: path and instruction. goal and the modes that end in _goal: for "
                    "planners that were trained with goal pictures; connect one to Condition.",
                ),
                io.String.Input(
                    "instruction",
                    multiline=True,
                    default="push the red cube to the left",
                    tooltip="What the robot should do, in plain words. Case and a final period do not matter.",
                ),
                PlannerSpecType.Input(
                    "spec",
                    optional=True,
                    tooltip="The planner's record, from Load Planner LoRA; contains the sentences.",
                ),
                io.String.Input(
                    "template",
                    optional=True,
                    default="",
                    tooltip="Another sentence for this mode, with {instruction} as a placeholder. If empty: the "
                    "planner's own.",
                ),
            ],
            outputs=[
                io.String.Output(
                    "prompt", display_name="prompt", tooltip="For a text encoder node such as CLIP Text Encode."
                )
            ],
        )

    @classmethod
    def execute(cls, mode: str, instruction: str, spec: PlannerSpec | None = None, template: str = "") -> io.NodeOutput:
        """Build the prompt."""
        build = build_prompt if spec is None else spec.prompt
        prompt = build(mode, instruction, template.strip() or None)
        notes = []
        if spec is not None and mode not in spec.modes:
            notes.append(warn(f"this planner was trained for {', '.join(spec.modes)} plans, not for mode {mode}"))
        if spec is not None and prompt != spec.prompt(mode, instruction):
            notes.append(warn("this template differs from the one that the planner was trained with"))
        return io.NodeOutput(prompt, ui=look(cls, text="\n".join([prompt, *(f"Note: {note}" for note in notes)])))

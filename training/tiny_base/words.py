"""The texts from which the tiny base's vocabulary is learned."""

from collections.abc import Iterable

from visual_planner.planner.spec import PlannerSpec


def planner_texts(spec: PlannerSpec) -> list[str]:
    """Every prompt that the simulated tasks can give under `spec`, from whose words the vocabulary is built.

    Only words are taken from them (a tokenizer has no notion of a task); the base never sees a task.
    """
    # Imported here, since a base of another world is trained without the simulation's packages.
    from simulation.scene import COLORS, SHAPES
    from simulation.wordings import DIRECTION_PHRASES, HELD_OUT, TRAIN

    names = [f"{color} {shape}" for color in COLORS for shape in SHAPES]
    directions = [phrase for phrases in DIRECTION_PHRASES.values() for phrase in phrases]
    instructions = [
        template.format(object=name, direction=direction)
        for templates in (*TRAIN.values(), *HELD_OUT.values())
        for template in templates
        for name in names
        for direction in (directions if "{direction}" in template else [""])
    ]
    return prompts_of(spec, instructions)


def prompts_of(spec: PlannerSpec, instructions: Iterable[str]) -> list[str]:
    """Every prompt of these instructions under `spec`, and the sentences without an instruction."""
    instructions = list(instructions)
    prompts = [spec.trajectory_prompt, spec.text_prompt.format(instruction=""), spec.both_prompt.format(instruction="")]
    for template in (spec.text_prompt, spec.both_prompt):
        prompts += [template.format(instruction=instruction) for instruction in instructions]
    return prompts

"""Node that shows what a planner LoRA changes in its model, and how it was trained."""

import torch
from comfy_api.latest import io

from ..visual_planner.adapters.change import Change, shown, size_of, tables
from ..visual_planner.adapters.heat_map import draw_heat_maps
from ..visual_planner.adapters.names import DOWN
from ..visual_planner.errors import listed, plain
from ..visual_planner.planner.presets import PRESETS
from ..visual_planner.planner.spec import SPEC_KEY, PlannerSpec
from .comfy.lora import lora, lora_norms
from .comfy.lora.lora_file import LoraFile
from .loaders import summary
from .wires import blocks_input, look, schema

RELATIVE, ABSOLUTE = SIZES = ("relative to the weights", "absolute")
_LONGEST, _MOST = 100, 24
"""Characters that are shown of each entry of the header, and the number of entries."""


class VisualPlannerLookIntoLora(io.ComfyNode):
    """A planner LoRA's record, and its change by block and kind of layer."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The node's inputs and outputs."""
        return schema(
            "VisualPlannerLookIntoLora",
            "Look into Planner LoRA (Visual Planner)",
            "loaders",
            description="Shows what a planner LoRA changes in a model: the size of the change by block and by kind of "
            "layer as a heat map, and how it was trained. The model itself is not changed.",
            search_aliases=["lora info", "lora norm", "block weight", "heat map"],
            is_output_node=True,
            inputs=[
                io.Model.Input("model", tooltip="The FLUX model that the LoRA is for."),
                io.Combo.Input(
                    "lora_name",
                    options=lora.lora_names(),
                    tooltip="The LoRA: one that ships with the plugin, or a .safetensors file in ComfyUI's loras "
                    "folder.",
                ),
                io.Combo.Input(
                    "size",
                    options=list(SIZES),
                    default=RELATIVE,
                    tooltip="Size of a change: relative to the weights (norm of the change over norm of the weight), "
                    "or absolute (norm of the change), for which the weights need not be read.",
                ),
                blocks_input("blocks", "Strength by block, as in Load Planner LoRA"),
            ],
            outputs=[
                io.String.Output("report", display_name="report", tooltip="The record and the changes as text."),
                io.Image.Output("picture", display_name="picture", tooltip="Heat map: kinds of layers against blocks."),
                io.String.Output("blocks_out", display_name="blocks", tooltip="The same text, for Load Planner LoRA."),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, lora_name: str, **_: object) -> tuple:
        """Look again when the file changes."""
        path = lora.lora_path(lora_name)
        return str(path), path.stat().st_mtime_ns

    @classmethod
    def execute(cls, model, lora_name: str, size: str = RELATIVE, blocks: str = "") -> io.NodeOutput:
        """Measure and draw."""
        path, relative = lora.lora_path(lora_name), size == RELATIVE
        factors = lora.factors_of(model, blocks)
        changes, file = lora_norms.changes_of(model, path, lora_name, factors, relative)
        found = tables(changes, len(factors.double), len(factors.single))
        title = f"{plain(lora_name)}: norm of the change, {'% of the weights' if relative else 'absolute'}"
        picture = torch.from_numpy(draw_heat_maps(found, title, relative))[None]
        by_block = [] if factors.are_one else [f"Strength by block: {factors.text()}"]
        records = record_lines(file.header.metadata)
        lines = [file_line(file, len(changes)), *records, *change_lines(changes, relative), *by_block]
        return io.NodeOutput("\n".join(lines), picture, blocks, ui=look(cls, picture, "\n".join(lines)))


def file_line(file: LoraFile, weights: int) -> str:
    """Kinds of adapters in a file, their ranks, and its size."""
    kinds = ", ".join(sorted({module.kind for module in file.modules}))
    shapes = [file.header.shapes[module.keys[DOWN]] for module in file.modules if DOWN in module.keys]
    ranks = sorted({shape[0] for shape in shapes})
    of_rank = f" of rank {listed(ranks, 4)}" if ranks else ""
    return f"{plain(file.name)}: {kinds}{of_rank} on {weights} weights, {file.path.stat().st_size / 2**20:.3g} MB"


def record_lines(metadata: dict[str, str]) -> list[str]:
    """Lines on a LoRA's header: its planner record, the presets that equal it, and the record of its training.

    Raises:
        SpecError: its planner record is broken or newer than this plugin.
    """
    spec = PlannerSpec.from_metadata(metadata)
    if spec is None:
        lines = [f"No planner record: set preset to the weights that match it ({', '.join(PRESETS)})"]
    else:
        same = [name for name, preset in PRESETS.items() if not preset.differences(spec)]
        lines = [*summary(spec).splitlines(), f"Presets with the same record: {', '.join(same) or 'none'}"]
    entries = {key: text for key, text in sorted(metadata.items()) if key not in (SPEC_KEY, "modelspec.thumbnail")}
    lines += [f"{plain(key, 60)}: {plain(text, _LONGEST)}" for key, text in list(entries.items())[:_MOST]]
    more = len(entries) - _MOST
    return [*lines, f"and {more} more entries in its header"] if more > 0 else lines


def change_lines(changes: list[Change], relative: bool) -> list[str]:
    """Sizes in total, by kind of block and by kind of layer, with the largest of each."""
    of = "of the weights' norm" if relative else "as norm"
    lines = [f"Change: {shown(size_of(changes), relative)} {of}"]
    for kind in ("double", "single", "other"):
        own = [change for change in changes if change.place[0] == kind]
        if own:
            largest = max(own, key=lambda change: size_of([change]))
            most = f"most in {largest.layer}: {shown(size_of([largest]), relative)}"
            blocks = "Outside of the blocks" if kind == "other" else f"{kind.capitalize()}-stream blocks"
            lines.append(f"{blocks}: {shown(size_of(own), relative)} ({most})")
    by_layer: dict[str, list[Change]] = {}
    for change in changes:
        if change.place[0] != "other":
            by_layer.setdefault(f"{change.place[0]} {change.place[2]}", []).append(change)
    sizes = sorted(((size_of(own), layer) for layer, own in by_layer.items()), reverse=True)
    return [*lines, f"By kind of layer: {', '.join(f'{layer} {shown(size, relative)}' for size, layer in sizes)}"]

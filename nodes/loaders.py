"""Loader nodes: the tiny planner that comes with the plugin, and planner LoRAs."""

from comfy_api.latest import io

from ..visual_planner.planner.presets import PRESETS
from ..visual_planner.planner.spec import PlannerSpec
from .comfy import model_family
from .comfy.lora import lora, lora_where
from .comfy.tiny import tiny
from .wires import PlannerSpecType, blocks_input, look, schema


class VisualPlannerTinyLoader(io.ComfyNode):
    """MODEL, CLIP and VAE of the tiny planner."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The node's inputs and outputs."""
        return schema(
            "VisualPlannerTinyLoader",
            "Load Tiny Planner (Visual Planner)",
            "loaders",
            description="Loads the small FLUX model that ships with the plugin, which plans on a CPU within "
            "seconds. The base alone is not a planner: add Load Planner LoRA after it.",
            search_aliases=["tiny flux", "embedded model"],
            inputs=[
                io.Combo.Input(
                    "planner",
                    optional=True,
                    options=list(tiny.PLANNERS),
                    default=tiny.TINY,
                    tooltip="Which small planner: tiny_planner for the Jaco's table, metaworld_planner for Meta-World "
                    "(if its weights are in the plugin's models folder).",
                ),
            ],
            outputs=[
                io.Model.Output("model", display_name="model", tooltip="The base model, for Load Planner LoRA."),
                io.Clip.Output("clip", display_name="clip", tooltip="Its text encoders, for CLIP Text Encode."),
                io.Vae.Output("vae", display_name="vae", tooltip="Its VAE, for Condition and VAE Decode."),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, planner: str = tiny.TINY) -> tuple:
        """Load again when the files change."""
        return tiny.fingerprint(tiny.folder_of(planner))

    @classmethod
    def execute(cls, planner: str = tiny.TINY) -> io.NodeOutput:
        """Load the three parts."""
        folder = tiny.folder_of(planner)
        return io.NodeOutput(tiny.load_model(folder), tiny.load_clip(folder), tiny.load_vae(folder))


class VisualPlannerLoraLoader(io.ComfyNode):
    """A planner LoRA, and the base LoRA that it builds on, on a FLUX MODEL."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The node's inputs and outputs."""
        names = lora.lora_names()
        strength = {"default": 1.0, "min": -10.0, "max": 10.0, "step": 0.01}
        return schema(
            "VisualPlannerLoraLoader",
            "Load Planner LoRA (Visual Planner)",
            "loaders",
            description="Applies a planner LoRA to a FLUX model and reads how it was trained. A LoRA that does not "
            "fit the model is an error; it is never ignored silently.",
            search_aliases=["planner lora", "visual planner", "block weight", "lbw"],
            inputs=[
                io.Model.Input(
                    "model", tooltip="FLUX model, from Load Tiny Planner, Load Diffusion Model or a GGUF loader."
                ),
                io.Combo.Input(
                    "lora_name",
                    options=names,
                    tooltip="The planner LoRA: one that ships with the plugin, or a .safetensors file in ComfyUI's "
                    "loras folder.",
                ),
                io.Float.Input("strength", **strength, tooltip="Strength of the planner LoRA; 1 is as trained."),
                io.Combo.Input(
                    "base_lora_name",
                    options=[lora.NONE, *names],
                    default=lora.NONE,
                    tooltip="LoRA to apply first. The published planners need their 'pretrain' LoRA here.",
                ),
                io.Float.Input("base_strength", **strength, tooltip="Strength of the base LoRA; 1 is as trained."),
                io.Combo.Input(
                    "preset",
                    options=[lora.FROM_FILE, *PRESETS],
                    default=lora.FROM_FILE,
                    tooltip="How the LoRA was trained: read from its file or, for published weights without a "
                    "record, the entry that matches them (data set and mode).",
                ),
                io.Combo.Input(
                    "where",
                    optional=True,
                    options=list(lora_where.HOW),
                    default=lora_where.AUTO,
                    tooltip="Where the LoRAs act: beside the weights, which are left as they are, or merged into them. "
                    "auto is beside quantised weights (fp8, int8, GGUF) and merged into others. Merged into fp8 or "
                    "int8, a LoRA is rounded away.",
                ),
                blocks_input("blocks", "Strength of the planner LoRA by block"),
            ],
            outputs=[
                io.Model.Output(
                    "planner_model", display_name="model", tooltip="The model with the LoRAs applied, for Condition."
                ),
                PlannerSpecType.Output(
                    "spec",
                    display_name="spec",
                    tooltip="How the planner was trained; the other nodes take their settings from it.",
                ),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, lora_name: str, base_lora_name: str = lora.NONE, **_: object) -> tuple:
        """Load again when a file changes; a name from another node is None here, and left to that node."""
        chosen = [name for name in (lora_name, base_lora_name) if name not in (lora.NONE, None)]
        return tuple((str(path), path.stat().st_mtime_ns) for path in map(lora.lora_path, chosen))

    @classmethod
    def execute(
        cls,
        model,
        lora_name: str,
        strength: float = 1.0,
        base_lora_name: str = lora.NONE,
        base_strength: float = 1.0,
        preset: str = lora.FROM_FILE,
        where: str = lora_where.AUTO,
        blocks: str = "",
    ) -> io.NodeOutput:
        """Base LoRA first, then the planner's."""
        path = lora.lora_path(lora_name)
        spec = lora.read_spec(path, lora_name, preset)
        if model_family.family_of_model(model) is not None:  # otherwise its keys show that it does not fit
            model_family.require_family(model, spec, f"planner LoRA {lora_name}")
        notes: list[str] = []
        if base_lora_name != lora.NONE:
            base = lora.lora_path(base_lora_name)
            model = lora.apply_lora(model, base, base_lora_name, base_strength, notes, where)
        model = lora.apply_lora(model, path, lora_name, strength, notes, where, blocks)
        return io.NodeOutput(model, spec, ui=look(cls, text="\n".join([summary(spec), *notes])))


def summary(spec: PlannerSpec) -> str:
    """The record in a few lines."""
    cfg = f", cfg {spec.cfg:g}" if spec.cfg != 1 else ""
    execution = f" ({spec.execution_steps} to execute)" if spec.execution_steps != spec.steps else ""
    return (
        f"{spec.layout}, cells {spec.cell_width} x {spec.cell_height} px, modes {', '.join(spec.modes)}\n"
        f"condition {spec.condition_tokens}, ids {spec.position_ids}, overlay {spec.overlay}\n"
        f"{spec.steps} steps{execution}, guidance {spec.guidance:g}{cfg}, shift {spec.mu():.3f}, for {spec.base_model}"
    )

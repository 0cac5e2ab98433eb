"""Visual Planner: a ComfyUI plugin in which an image generator plans robot motion as a grid of frames.

ComfyUI imports this file at its start, so nothing heavy is imported here or below it: OpenCV, MuJoCo, diffusers, peft
and transformers wait until a node runs.
"""

from .nodes import comfy_entrypoint

WEB_DIRECTORY = "./web"

__all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]

"""The visual planner's method: a robot video painted as one grid of frames.

Pure computation on tensors and arrays: no ComfyUI, no diffusers, no file or network access. Import the submodules
one by one (`from visual_planner.grid import slice_grid`); importing the package alone loads nothing.
"""

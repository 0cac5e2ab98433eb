"""Planners that a planner LoRA is compared with: a video-diffusion model, and a policy that paints no pictures."""

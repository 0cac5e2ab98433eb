"""Tiny planners as ComfyUI's own MODEL, CLIP and VAE."""

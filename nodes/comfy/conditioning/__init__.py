"""In-context conditioning on ComfyUI's FLUX models: patch, cached condition, and the mark that links both ends."""

"""In-context conditioning on ComfyUI's FLUX models: patch, cached condition, and the mark that ties both ends."""

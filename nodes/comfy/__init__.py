"""Everything that touches ComfyUI's inside: the FLUX patch, LoRA loading, the tiny models, node expansion."""

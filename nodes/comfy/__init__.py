"""Everything that touches ComfyUI's inside: the FLUX patch, adapters, tiny models, processes, node expansion."""

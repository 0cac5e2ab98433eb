"""Everything that touches ComfyUI's internals: the FLUX patch, adapters, tiny models, processes, node expansion."""

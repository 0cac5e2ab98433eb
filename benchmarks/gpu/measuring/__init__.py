"""How the parts measure: time and memory, operations by formula, GPUs' peaks, networks with random weights."""

"""The launcher: makes the environment, finds ComfyUI, starts it, and runs demo, serve, test and bench (see run.py)."""

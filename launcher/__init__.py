"""The launcher: creates the environment, finds and starts ComfyUI, and runs demo, serve, test, bench (see run.py)."""

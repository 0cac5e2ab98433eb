"""Adapters on ComfyUI's models: files of every trainer, merged into weights or beside them, and what they change."""

"""Adapter files of all trainers (LoRA and its relatives): their names, their parts, and what they do to a weight."""

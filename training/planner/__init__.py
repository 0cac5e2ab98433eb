"""Training of a planner LoRA, and its export."""

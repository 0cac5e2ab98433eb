"""Training of planner LoRAs: episodes in, a LoRA with its PlannerSpec out (`python -m training --help`)."""

"""What a planner is conditioned on: its PlannerSpec, prompts, in-context tokens, and plans in a chain."""

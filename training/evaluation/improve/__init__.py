"""Learning from execution: a planner is trained on with what its own plans achieved."""

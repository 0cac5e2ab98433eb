"""Learn from execution: a planner is trained further on what its own plans achieved."""

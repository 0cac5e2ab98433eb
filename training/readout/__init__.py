"""The read-out: a small network that sees where the end effector is; see `visual_planner.execution.readout`."""

"""Implementation of Training Data and Train Planner: folders, data sets, runs, and the display of a run."""

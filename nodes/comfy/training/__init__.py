"""Behind Training Data and Train Planner: folders, data sets, runs, and what is shown of a run."""

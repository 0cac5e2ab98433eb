"""How any command of the project runs: its last error handler, signals and locks. Standard library only."""

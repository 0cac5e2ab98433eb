"""How any command of the project runs: its last handler, its signals, its locks. The standard library alone."""

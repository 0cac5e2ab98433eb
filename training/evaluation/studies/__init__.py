"""Studies: one command, seeds and settings in a file, results as JSON, a plot and a page."""

"""Studies: one command each, with seeds and settings in a file, and results as JSON, a plot and a page."""

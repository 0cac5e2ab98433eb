"""Plans judged by execution: `python -m training evaluate --closed-loop`."""

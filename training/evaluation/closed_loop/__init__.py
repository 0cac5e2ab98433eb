"""Judge plans by execution: `python -m training evaluate --closed-loop`."""

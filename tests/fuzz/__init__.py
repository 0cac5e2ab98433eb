"""Random broken inputs for every parser: `python -m tests.fuzz --seconds 600` from the repository's root."""

"""A run of `prepare`: its progress, its parts in several processes, and what it writes at the end."""

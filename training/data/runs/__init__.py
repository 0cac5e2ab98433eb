"""A run of `prepare`: what is finished, its parts in several processes, and what it writes in the end."""

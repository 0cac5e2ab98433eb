"""Processes beside the server: commands that run to their end, and the one in which worlds are simulated."""

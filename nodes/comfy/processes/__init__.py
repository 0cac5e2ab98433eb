"""Processes beside the server: one for commands that run to their end, and one in which worlds are simulated."""

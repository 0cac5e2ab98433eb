"""Distances in the features of published networks."""

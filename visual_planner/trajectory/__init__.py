"""Trajectories: drawn curves, their text forms, strokes, tracking, and the overlay painted on a first frame."""

"""Families of base models in diffusers' classes: what one has of its own, as data and one class each."""

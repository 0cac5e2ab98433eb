"""Families of base models in diffusers' classes: what is specific to each, as data and one class."""

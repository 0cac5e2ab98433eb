"""Checks of finished plans, and the pictures in which a person looks at them."""

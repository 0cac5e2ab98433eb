"""Which frames of an episode a pair shows."""

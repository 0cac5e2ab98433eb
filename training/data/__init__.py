"""From episodes to pairs of condition and target grids."""

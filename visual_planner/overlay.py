"""Draw a trajectory on a frame."""

OVERLAY_STYLES = ("gradient", "arrows_bridge", "arrows_rt1")
COLOR_BY = ("time", "arc")

"""The grid: its layout, its cells as frames and back, masks, and how a picture becomes a frame."""

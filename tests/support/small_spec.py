"""A planner's record of small cells, as plain fields: 3x3 cells of 64 px, the first cell's tokens, a shift of 5."""

import math

SMALL_SPEC = {
    "cell_height": 64,
    "cell_width": 64,
    "condition_tokens": "first_cell",
    "base_model": "tiny_planner",
    "base_shift": math.log(5.0),
    "max_shift": math.log(5.0),
    "shift_counts_condition": False,
    "steps": 8,
}

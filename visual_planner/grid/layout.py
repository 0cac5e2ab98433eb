"""Where each frame of a plan stands in the grid.

The planner paints a whole video as one picture: a grid of cells, one frame per cell. The order decides which
cell holds which frame. Serpentine keeps frames that follow each other in time next to each other in space
("Image Generation as a Visual Planner for Robotic Manipulation", arXiv 2512.00532).
"""

import operator
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256

from ..errors import LayoutError, PlannerError, brief

SERPENTINE = "serpentine"
RASTER = "raster"
COLUMN_SERPENTINE = "column_serpentine"
SHUFFLED = "shuffled"

ORDERS = (SERPENTINE, RASTER, COLUMN_SERPENTINE, SHUFFLED)
"serpentine: by rows, odd rows reversed; raster: by rows; column_serpentine: by columns, odd columns "
"reversed;\nshuffled: the first frame at the top left, the others in one fixed permutation, for ablations."

_TEXT_FORM = re.compile(r"\s*(\d+)\s*[xX×]\s*(\d+)(?:[\s:,/]+([A-Za-z_]+))?\s*")


MAX_CELLS = 4096
"""Most cells of a grid: far beyond any planner, and small enough that a record from outside costs nothing."""


def whole_number(
    value: object, name: str, minimum: int = 1, error: type[PlannerError] = LayoutError, maximum: int | None = None
) -> int:
    """Return `value` as an int, or raise `error` naming it.

    Args:
        value: an int, or anything that is exactly an integer by type (numpy integers too; booleans are refused).
        name: what the number is, for the message.
        minimum: the smallest value allowed.
        error: the PlannerError class to raise.
        maximum: the largest value allowed; None: any.
    """
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool) or number < minimum:
        raise error(f"{name} must be a whole number of at least {minimum}, got {brief(value)}")
    if maximum is not None and number > maximum:
        raise error(f"{name} must be at most {maximum}, got {brief(number)}")
    return number


@dataclass(frozen=True)
class GridLayout:
    """A grid of `rows` x `cols` cells and the order in which time runs through it.

    Args:
        rows: number of rows of cells.
        cols: number of columns of cells.
        order: one of `ORDERS`.

    Raises:
        LayoutError: rows or cols is not a positive whole number, there are more than `MAX_CELLS` cells, or the order is
            unknown.
    """

    rows: int = 3
    cols: int = 3
    order: str = SERPENTINE

    def __post_init__(self) -> None:
        object.__setattr__(self, "rows", whole_number(self.rows, "grid rows"))
        object.__setattr__(self, "cols", whole_number(self.cols, "grid cols"))
        if self.rows * self.cols > MAX_CELLS:
            raise LayoutError(
                f"grid must have at most {MAX_CELLS} cells, got {brief(self.rows)} rows x {brief(self.cols)} cols"
            )
        if self.order not in ORDERS:
            raise LayoutError(f"grid order must be one of {', '.join(ORDERS)}, got {brief(self.order)}")

    @classmethod
    def parse(cls, text: str) -> "GridLayout":
        """Read "3x3" (rows x cols), optionally followed by an order: "2x4 raster"; the inverse of `str`.

        Raises:
            LayoutError: the text has another form.
        """
        match = _TEXT_FORM.fullmatch(text) if isinstance(text, str) else None
        if match is None:
            raise LayoutError(f'grid layout must read like "3x3" or "3x3 serpentine" (rows x cols), got {brief(text)}')
        rows, cols, order = match.groups()
        if len(rows) > 9 or len(cols) > 9:
            raise LayoutError(f"grid must have at most {MAX_CELLS} cells, got {brief(text)}")
        return cls(int(rows), int(cols), (order or SERPENTINE).lower())

    def __str__(self) -> str:
        return f"{self.rows}x{self.cols} {self.order}"

    @property
    def frames(self) -> int:
        """Number of frames in one grid."""
        return self.rows * self.cols

    @property
    def frame_indices(self) -> tuple[int, ...]:
        """Frame shown at each cell, cells in row-major order: `(0, 1, 2, 5, 4, 3, 6, 7, 8)` for 3x3 serpentine."""
        return _frame_indices(self)

    @property
    def cell_indices(self) -> tuple[int, ...]:
        """Row-major cell of each frame: the inverse permutation of `frame_indices`."""
        return _cell_indices(self)

    def frame_at(self, row: int, col: int) -> int:
        """Frame shown in the cell at `row`, `col` (from 0).

        Raises:
            LayoutError: there is no such cell.
        """
        row, col = whole_number(row, "cell row", 0), whole_number(col, "cell col", 0)
        if row >= self.rows or col >= self.cols:
            raise LayoutError(f"a {self.rows}x{self.cols} grid has no cell at row {row}, col {col} (both count from 0)")
        return self.frame_indices[row * self.cols + col]

    def cell_of(self, frame: int) -> tuple[int, int]:
        """Cell (row, col) that shows `frame` (from 0).

        Raises:
            LayoutError: there is no such frame.
        """
        frame = whole_number(frame, "frame", 0)
        if frame >= self.frames:
            raise LayoutError(f"a {self.rows}x{self.cols} grid has frames 0 to {self.frames - 1}, got frame {frame}")
        return divmod(self.cell_indices[frame], self.cols)

    def cell_box(self, frame: int, cell_height: int, cell_width: int) -> tuple[int, int, int, int]:
        """Box (top, left, bottom, right) of `frame` in the grid [same unit as the cell size], ends exclusive."""
        row, col = self.cell_of(frame)
        height, width = whole_number(cell_height, "cell height"), whole_number(cell_width, "cell width")
        return row * height, col * width, (row + 1) * height, (col + 1) * width

    def grid_size(self, cell_height: int, cell_width: int) -> tuple[int, int]:
        """Size (H, W) of a grid with cells of (cell_height, cell_width)."""
        return (
            self.rows * whole_number(cell_height, "cell height"),
            self.cols * whole_number(cell_width, "cell width"),
        )

    def cell_size(self, grid_height: int, grid_width: int) -> tuple[int, int]:
        """Size (h, w) of one cell of a grid of (grid_height, grid_width).

        Raises:
            LayoutError: the grid's size does not divide into whole cells.
        """
        height, width = whole_number(grid_height, "grid height"), whole_number(grid_width, "grid width")
        if height % self.rows or width % self.cols:
            raise LayoutError(
                f"a grid of {self.rows} rows x {self.cols} cols needs a height that divides by {self.rows} and a width "
                f"that divides by {self.cols}, got {height} high x {width} wide"
            )
        return height // self.rows, width // self.cols

    def require_cells_divisible(self, cell_height: int, cell_width: int, by: int, unit: str) -> tuple[int, int]:
        """Return (cell_height // by, cell_width // by).

        Raises:
            LayoutError: a cell side does not divide, so that one `unit` would straddle two cells.
        """
        height, width = whole_number(cell_height, "cell height"), whole_number(cell_width, "cell width")
        by = whole_number(by, f"{unit} size")
        if height % by or width % by:
            raise LayoutError(
                f"cells must have sides that divide by {by}, or a {unit} straddles two cells, "
                f"got {height} high x {width} wide"
            )
        return height // by, width // by


@lru_cache(maxsize=256)
def _frame_indices(layout: GridLayout) -> tuple[int, ...]:
    rows, cols = layout.rows, layout.cols
    if layout.order == COLUMN_SERPENTINE:
        return tuple(c * rows + (rows - 1 - r if c % 2 else r) for r in range(rows) for c in range(cols))
    if layout.order == SHUFFLED:
        # Sorted by a hash, not drawn: files store only the order's name, so it must not depend on Python's version.
        later = sorted(range(1, layout.frames), key=lambda frame: sha256(f"{rows}x{cols} {frame}".encode()).digest())
        return 0, *later
    turn = layout.order == SERPENTINE
    return tuple(r * cols + (cols - 1 - c if turn and r % 2 else c) for r in range(rows) for c in range(cols))


@lru_cache(maxsize=256)
def _cell_indices(layout: GridLayout) -> tuple[int, ...]:
    return inverse_permutation(layout.frame_indices)


def inverse_permutation(order: Sequence[int]) -> tuple[int, ...]:
    """Permutation that undoes `order`: `order[inverse[i]] == i`."""
    inverse = [0] * len(order)
    for position, item in enumerate(order):
        inverse[item] = position
    return tuple(inverse)

"""Laws of assembling and slicing grids."""

from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from visual_planner.errors import ImageError, LayoutError
from visual_planner.grid.cells import assemble_grid, condition_grid, slice_grid
from visual_planner.grid.layout import ORDERS, GridLayout

ALL_LAYOUTS = [GridLayout(*sides) for sides in product(range(1, 7), range(1, 7), ORDERS)]
DTYPES = [
    *(torch.bool, torch.uint8, torch.int8, torch.int16, torch.uint16, torch.int32, torch.int64),
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.float8_e4m3fn, torch.complex64),
]


def noise(*shape: int, dtype: torch.dtype = torch.uint8) -> torch.Tensor:
    """Random bytes seen as numbers of a type, NaN and all: exactness is a matter of bits."""
    size = torch.empty((), dtype=dtype).element_size()
    high = 2 if dtype == torch.bool else 256
    values = torch.randint(0, high, (*shape[:-1], shape[-1] * size), dtype=torch.uint8)
    return values.view(dtype)


def same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    return (
        a.shape == b.shape and a.dtype == b.dtype and torch.equal(a.contiguous().view(torch.uint8), b.view(torch.uint8))
    )


def test_slice_undoes_assemble_for_every_layout_up_to_6x6():
    assert len(ALL_LAYOUTS) == 144
    for layout in ALL_LAYOUTS:
        frames = noise(2 * layout.frames, 3, 5, 3)
        grid = assemble_grid(frames, layout)
        assert grid.shape == (2, 3 * layout.rows, 5 * layout.cols, 3)
        assert same_bits(slice_grid(grid, layout), frames), layout


def test_assemble_undoes_slice_for_every_layout_up_to_6x6():
    for layout in ALL_LAYOUTS:
        grid = noise(2, 4 * layout.rows, 3 * layout.cols, 1)
        assert same_bits(assemble_grid(slice_grid(grid, layout), layout), grid), layout


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("order", ORDERS)
def test_any_number_type_bit_for_bit(dtype, order):
    layout = GridLayout(3, 4, order)
    frames = noise(24, 2, 3, 4, dtype=dtype)
    assert same_bits(slice_grid(assemble_grid(frames, layout), layout), frames)


@given(
    st.builds(GridLayout, st.integers(1, 6), st.integers(1, 6), st.sampled_from(ORDERS)),
    st.integers(1, 3),
    st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 5)),
)
def test_every_frame_stands_in_its_box(layout, batch, frame_shape):
    frames = noise(batch * layout.frames, *frame_shape)
    grid = assemble_grid(frames, layout)
    for number, frame in product(range(batch), range(layout.frames)):
        top, left, bottom, right = layout.cell_box(frame, *frame_shape[:2])
        assert torch.equal(grid[number, top:bottom, left:right], frames[number * layout.frames + frame])


@pytest.mark.parametrize(("rows", "cols"), [(3, 2), (2, 3)])
def test_grids_that_are_not_square_do_not_mix_up_rows_and_columns(rows, cols):
    # Peers that swap the two, or guess them from the number of frames, cut such grids in the wrong places.
    frames = torch.arange(6)[:, None, None, None].expand(6, 4, 7, 3).contiguous()
    for order in ORDERS:
        layout = GridLayout(rows, cols, order)
        grid = assemble_grid(frames, layout)
        assert grid.shape == (1, rows * 4, cols * 7, 3)
        assert slice_grid(grid, layout)[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("size", [(100, 96), (96, 100), (97, 97), (2, 3)])
def test_a_grid_that_does_not_divide_is_refused_and_not_cropped(size):
    with pytest.raises(LayoutError, match=f"divides by 3, got {size[0]} high x {size[1]} wide"):
        slice_grid(torch.zeros(1, *size, 3), GridLayout())


def test_row_by_row_cutting_would_play_a_serpentine_backwards():
    grid = assemble_grid(torch.arange(9).reshape(9, 1, 1, 1), GridLayout())
    assert slice_grid(grid, GridLayout(3, 3, "raster")).flatten().tolist() == [0, 1, 2, 5, 4, 3, 6, 7, 8]
    assert slice_grid(grid, GridLayout()).flatten().tolist() == list(range(9))


@pytest.mark.parametrize("count", [1, 8, 10, 17])
def test_frames_that_do_not_fill_whole_grids_are_refused(count):
    message = rf"shape \(9, h, w, C\), or a multiple of 9 frames, to fill a 3x3 grid, got \({count}, 8, 8, 3\)"
    with pytest.raises(LayoutError, match=message):
        assemble_grid(torch.zeros(count, 8, 8, 3), GridLayout())


@pytest.mark.parametrize("shape", [(9, 8, 8), (0, 8, 8, 3), (9, 0, 8, 3), (9, 8, 8, 0), (1, 9, 8, 8, 3)])
@pytest.mark.parametrize("call", [assemble_grid, slice_grid, condition_grid])
def test_other_shapes_are_refused(call, shape):
    with pytest.raises(ImageError, match=r"must have shape \(B, H, W, C\) with none of them 0, got shape"):
        call(torch.zeros(shape), GridLayout())


@pytest.mark.parametrize("call", [assemble_grid, slice_grid, condition_grid])
def test_other_objects_are_refused(call):
    with pytest.raises(ImageError, match="must be a torch tensor .* got list"):
        call([[1]], GridLayout())


def test_the_condition_grid_is_the_grid_of_the_first_frame_and_black_ones():
    for layout in ALL_LAYOUTS:
        first = noise(2, 3, 4, 3)
        frames = torch.zeros(2, layout.frames, 3, 4, 3, dtype=torch.uint8)
        frames[:, 0] = first
        assert same_bits(condition_grid(first, layout), assemble_grid(frames.flatten(0, 1), layout))


def test_the_input_stays_as_it_was():
    frames = noise(9, 4, 4, 3)
    before = frames.clone()
    grid = assemble_grid(frames, GridLayout())
    grid.zero_()
    slice_grid(grid, GridLayout()).fill_(7)
    condition_grid(frames[:1], GridLayout()).fill_(9)
    assert torch.equal(frames, before)


def test_gradients_flow_through():
    frames = torch.rand(4, 2, 2, 3, requires_grad=True)
    weights = torch.rand(1, 4, 4, 3)
    layout = GridLayout(2, 2)
    (assemble_grid(frames, layout) * weights).sum().backward()
    assert torch.equal(frames.grad, slice_grid(weights, layout))

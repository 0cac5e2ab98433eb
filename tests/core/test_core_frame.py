"""First frames of any size and kind, and points that move along with them."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from visual_planner.errors import ImageError
from visual_planner.grid.frame import FITS, fit_frame, fit_transform, to_bytes, to_rgb

sizes = st.tuples(st.integers(24, 90), st.integers(24, 90))


def test_a_frame_of_the_right_size_is_not_touched():
    image = torch.rand(2, 64, 48, 3)
    for fit in FITS:
        assert torch.equal(fit_frame(image, 64, 48, fit), image)
        assert fit_transform((64, 48), (64, 48), fit) == (1.0, 1.0, 0.0, 0.0)


@given(sizes, sizes, st.sampled_from(FITS), st.floats(0.3, 0.7), st.floats(0.3, 0.7))
def test_points_move_as_the_picture_does(source, cell, fit, share_x, share_y):
    (height, width), (cell_height, cell_width) = source, cell
    x, y = share_x * width, share_y * height
    columns, rows = torch.arange(width) + 0.5 - x, torch.arange(height) + 0.5 - y
    spot = torch.exp(-(columns[None] ** 2 + rows[:, None] ** 2) / 18.0)
    fitted = fit_frame(spot, cell_height, cell_width, fit)[0, ..., 0].double()
    scale_x, scale_y, offset_x, offset_y = fit_transform(source, cell, fit)
    expected = x * scale_x + offset_x, y * scale_y + offset_y
    reach_x, reach_y = 11 * scale_x, 11 * scale_y
    if not (reach_x < expected[0] < cell_width - reach_x and reach_y < expected[1] < cell_height - reach_y):
        return  # the spot itself was cut
    weight = fitted.sum()
    found_x = ((torch.arange(cell_width) + 0.5) * fitted.sum(0)).sum() / weight
    found_y = ((torch.arange(cell_height) + 0.5) * fitted.sum(1)).sum() / weight
    assert found_x.item() == pytest.approx(expected[0], abs=0.1)
    assert found_y.item() == pytest.approx(expected[1], abs=0.1)


@given(sizes, sizes)
def test_letterbox_shows_everything_and_crop_fills_everything(source, cell):
    white = torch.ones(1, *source, 3)
    boxed = fit_frame(white, *cell, "letterbox")
    scale_x, scale_y, offset_x, offset_y = fit_transform(source, cell, "letterbox")
    picture = boxed[0, int(offset_y) :, int(offset_x) :][: round(source[0] * scale_y), : round(source[1] * scale_x)]
    assert picture.min() > 0.999 and picture.numel() == boxed.count_nonzero()
    assert round(source[0] * scale_y) == cell[0] or round(source[1] * scale_x) == cell[1]
    assert scale_x == pytest.approx(scale_y, abs=0.6 / min(source))  # but for rounding to whole pixels
    assert fit_frame(white, *cell, "crop").min() > 0.999
    assert fit_frame(white, *cell, "stretch").min() > 0.999


def test_height_and_width_are_not_swapped():
    image = torch.zeros(1, 30, 60, 3)
    image[:, :15] = 1.0
    fitted = fit_frame(image, 60, 120)
    assert fitted.shape == (1, 60, 120, 3)
    assert fitted[0, :28].min() > 0.99 and fitted[0, 32:].max() < 0.01


GREY = torch.tensor([[0.0, 0.2], [0.6, 1.0]])


@pytest.mark.parametrize(
    "image",
    [
        GREY,
        GREY[None, :, :, None],
        GREY.double().numpy(),
        GREY.half(),
        GREY.bfloat16(),
        (GREY * 255).to(torch.uint8),
        (GREY * 65535).round().numpy().astype(np.uint16),
        (GREY * 65535).round().to(torch.uint16),
        (GREY * 65535).round().to(torch.int32),
        (GREY * 65535).round().numpy().astype(">u2"),
        (GREY * 65535).round().numpy().astype(np.uint32),
        (GREY * 255).round().to(torch.int64),
        torch.stack([GREY] * 3, -1),
        torch.stack([GREY, torch.ones(2, 2)], -1),
        torch.stack([*[GREY] * 3, torch.ones(2, 2)], -1)[None],
    ],
    ids=lambda image: f"{type(image).__name__}-{image.dtype}-{tuple(image.shape)}",
)
def test_every_kind_of_picture_becomes_the_same_rgb(image):
    rgb = fit_frame(image, 2, 2)
    assert rgb.shape == (1, 2, 2, 3) and rgb.dtype == torch.float32
    assert torch.allclose(rgb, GREY[None, :, :, None].expand(1, 2, 2, 3), atol=0.003)


def test_bool_is_black_and_white():
    assert fit_frame(torch.tensor([[True, False]]), 1, 2)[0, 0, :, 0].tolist() == [1.0, 0.0]


def test_alpha_lies_over_black():
    image = torch.tensor([1.0, 0.5, 0.0, 0.5]).expand(1, 2, 2, 4)
    assert torch.allclose(fit_frame(image, 2, 2), torch.tensor([0.5, 0.25, 0.0]).expand(1, 2, 2, 3))


def test_overshoot_of_resampling_is_clamped():
    rgb = fit_frame(torch.tensor([[-0.1, 1.2]]), 1, 2)
    assert rgb[0, 0, :, 0].tolist() == [0.0, 1.0]
    sharp = (torch.rand(1, 50, 50, 3) > 0.5).float()
    resized = fit_frame(sharp, 80, 80)
    assert resized.min() >= 0.0 and resized.max() <= 1.0


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (torch.zeros(1, 4, 4, 5), r"1, 2, 3 or 4 channels .* got shape \(1, 4, 4, 5\)"),
        (torch.zeros(0, 4, 4, 3), r"none of them 0, got \(0, 4, 4, 3\)"),
        (torch.zeros(4), r"must have shape .* got \(4,\)"),
        (torch.full((2, 2), float("nan")), "must have finite values, got NaN or infinity"),
        (torch.tensor([[0.0, 255.0]]), "floats must have values from 0 to 1, got 0 to 255"),
        (torch.tensor([[-1.0, 1.0]]), "floats must have values from 0 to 1, got -1 to 1"),
        (torch.tensor([[-5, 70000]]), "got -5 to 70000"),
        (torch.zeros(2, 2, dtype=torch.complex64), "integer, bool or float dtype, got torch.complex64"),
        (np.array([["a"]]), "must hold numbers, got a numpy array of dtype"),
        ([[0.0]], "must be a torch tensor or a numpy array, got list"),
    ],
)
def test_what_is_no_picture_is_refused(image, message):
    with pytest.raises(ImageError, match=message):
        fit_frame(image, 2, 2)


def test_other_arguments_are_refused():
    with pytest.raises(ImageError, match="fit must be one of letterbox, crop, stretch, got 'pad'"):
        fit_frame(GREY, 4, 4, "pad")
    with pytest.raises(ImageError, match="cell size height must be a whole number of at least 1, got 0"):
        fit_frame(GREY, 0, 4)
    with pytest.raises(ImageError, match="source size width must be"):
        fit_transform((4, 0), (4, 4))


def test_numpy_pictures_are_not_changed():
    image = np.full((8, 8, 3), 0.5, np.float32)
    fit_frame(image, 8, 8).zero_()
    to_rgb(torch.from_numpy(image)).mul(2)
    assert (image == 0.5).all()


def test_bytes_come_back_as_they_were():
    values = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16, 1).expand(1, 16, 16, 3)
    assert np.array_equal(to_bytes(to_rgb(values)), values.numpy())
    assert to_bytes(torch.tensor([-0.1, 0.0019, 0.0021, 1.1])).tolist() == [0, 0, 1, 255]

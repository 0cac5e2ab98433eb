"""One decoder of pictures: turned, transparent, deep, and the same one for all who read them."""

import io
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from launcher.demo_inputs import read_picture as read_first_frame
from support.data_files import CAMERA, SIZE, corner, plain, png, write_frames, write_lerobot
from training.cache.write import read_condition
from training.data.sources import open_source
from training.data.sources.pictures import picture_size, read_picture
from training.errors import TrainingError
from visual_planner import pictures
from visual_planner.grid.frame import to_bytes, to_rgb
from visual_planner.planner.spec import PlannerSpec


def encoded(image, kind="PNG", **settings):
    stream = io.BytesIO()
    image.save(stream, kind, **settings)
    return stream.getvalue()


def noise(size=SIZE, channels=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*size, channels), np.uint8)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_as_their_exif_says(kind, orientation):
    image = Image.fromarray(corner(90))
    exif = image.getexif()
    exif[0x0112] = orientation
    data = encoded(image, kind, exif=exif)
    with Image.open(io.BytesIO(data)) as stored:
        expected = np.array(ImageOps.exif_transpose(stored).convert("RGB"))
    assert np.array_equal(read_picture(data, "x"), expected)
    assert (expected.shape[0] > expected.shape[1]) == (orientation >= 5)


@pytest.mark.parametrize("kind", ["png", "jpg", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_size_of_a_header_is_that_of_the_turned_picture(tmp_path, kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = tmp_path / f"a.{kind}"
    Image.fromarray(corner()).save(file, exif=exif)
    assert picture_size(file, "x") == read_picture(file, "x").shape[:2] == (SIZE[::-1] if orientation >= 5 else SIZE)


def other_forms():
    """Pictures of `corner(90)` in forms that cameras, phones and editors write."""
    image, after = Image.fromarray(corner(90)), [Image.fromarray(plain(7))]
    exif = Image.Exif()
    exif[0x010E] = "x" * 60000
    palette = image.quantize(8)
    return {
        "palette": encoded(palette, "PNG"),
        "gamma": png(corner(90))[:33] + _chunk(b"gAMA", (100000).to_bytes(4, "big")) + png(corner(90))[33:],
        "animated WebP": encoded(image, "WEBP", save_all=True, append_images=after, lossless=True),
        "animated PNG": encoded(image, "PNG", save_all=True, append_images=after),
        "animated GIF": encoded(image, "GIF", save_all=True, append_images=after),
        "TIFF of two pages": encoded(image, "TIFF", save_all=True, append_images=after),
        "CMYK TIFF": encoded(image.convert("CMYK"), "TIFF"),
        "CMYK JPEG": encoded(image.convert("CMYK"), "JPEG", quality=95),
        "stereo JPEG": encoded(image, "MPO", save_all=True, append_images=after, quality=95),
        "long EXIF": encoded(image, "JPEG", exif=exif, quality=95),
        "broken EXIF": encoded(image, "JPEG", exif=b"Exif\0\0" + b"\xff" * 60000, quality=95),
    }


def _chunk(name, data):
    return len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")


@pytest.mark.parametrize(("form", "data"), other_forms().items())
def test_every_form_shows_its_first_picture(form, data):
    pixels, wanted = read_picture(data, "x").astype(int), corner(90)
    inner = [(2, 2), (2, -3), (-3, 2), (-3, -3)]
    assert pixels.shape == wanted.shape
    assert max(abs(pixels[place] - wanted[place]).max() for place in inner) <= 2


@pytest.mark.parametrize("value", [0, 9, 300, b"\xff" * 5])
def test_a_senseless_orientation_is_none(value):
    exif = Image.Exif()
    if isinstance(value, int):
        exif[0x0112] = value
        data = encoded(Image.fromarray(corner()), "JPEG", exif=exif)
    else:
        data = encoded(Image.fromarray(corner()), "JPEG", exif=b"Exif\0\0" + value)
    assert read_picture(data, "x").shape[:2] == SIZE


@pytest.mark.parametrize("how", ["RGBA", "LA", "P", "tRNS", "bytes of a table"])
def test_what_is_transparent_is_black_everywhere(tmp_path, how):
    rgba = np.dstack([plain(255), np.zeros(SIZE, np.uint8)])
    rgba[:, :32, 3] = 255
    image = Image.fromarray(rgba)
    if how == "LA":
        image = image.convert("LA")
    elif how == "P":
        image = Image.fromarray((rgba[..., 3] // 255).astype(np.uint8)).convert("P")
        image.putpalette([0, 0, 255, 255, 255, 255])
        image.info["transparency"] = b"\0\xff"
    elif how == "tRNS":
        rgb = plain(255)
        rgb[:, 32:] = (7, 8, 9)
        image = Image.fromarray(rgb)
        image.info["transparency"] = (7, 8, 9)
    file = tmp_path / "a.png"
    image.save(file, **({"transparency": image.info["transparency"]} if "transparency" in image.info else {}))
    seen = read_picture(file.read_bytes() if how == "bytes of a table" else file, "x")
    assert (seen[:, :32] == 255).all() and (seen[:, 32:] == 0).all()
    assert np.array_equal(read_first_frame(file), seen)


def test_half_transparent_pictures_are_those_of_the_nodes():
    rgba = noise(channels=4)
    assert np.array_equal(read_picture(encoded(Image.fromarray(rgba)), "x"), to_bytes(to_rgb(rgba)[0]))


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr", "RGB", "RGBX"])
def test_pictures_without_transparency_are_what_pillow_says(mode):
    kind = "JPEG" if mode in ("CMYK", "YCbCr", "RGBX") else "PNG"
    image = Image.fromarray(noise()).convert("RGB" if mode == "RGBX" else mode)
    data = encoded(image, kind)
    with Image.open(io.BytesIO(data)) as stored:
        expected = np.array(stored.convert("RGB"))
    assert np.array_equal(read_picture(data, "x"), expected)


def test_sixteen_bits_count_to_65535():
    grey = np.linspace(0, 65535, SIZE[0] * SIZE[1]).astype(np.uint16).reshape(SIZE)
    seen = read_picture(encoded(Image.fromarray(grey)), "x")
    assert np.abs(seen[..., 0] - grey / 257).max() <= 0.5 + 1e-3
    dark = np.full(SIZE, 200, np.uint16)
    assert read_picture(encoded(Image.fromarray(dark)), "x").max() <= 1


@pytest.mark.parametrize("mode", ["RGBA", "LA", "I;16", "I", "F"])
def test_a_large_picture_is_read_some_rows_at_a_time(monkeypatch, mode):
    """A megabyte of file can hold 2^26 pixels, whose floats would take gigabytes; the values are those of the whole."""
    if mode in ("RGBA", "LA"):
        drawn = noise((900, 700), len(mode))
    else:
        drawn = noise((900, 700), 1)[..., 0].astype({"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode])
        drawn = drawn / np.float32(255) if mode == "F" else drawn * 257
        drawn[:-1] //= 300 if mode == "I" else 1  # no value above 255 but in the last row
    image = Image.fromarray(drawn)
    assert image.mode == mode
    data = encoded(image, "PNG" if mode in ("RGBA", "LA") else "TIFF")
    seen = []
    monkeypatch.setattr(pictures, "to_rgb", lambda rows: seen.append(rows.shape[0] * rows.shape[1]) or to_rgb(rows))
    assert np.array_equal(read_picture(data, "x"), to_bytes(to_rgb(drawn)[0]))
    assert sum(seen) == 900 * 700 and max(seen) <= 2**18


@pytest.mark.parametrize(
    "data", [b"", b"%!PS\n{ } loop\n", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"\xff\xd8\xff\xe0", b"text"]
)
def test_what_is_no_picture_is_one_line(data):
    with pytest.raises(TrainingError, match="^frame 3 of a cannot be read: ") as caught:
        read_picture(data, "frame 3 of a")
    assert str(caught.value).isprintable()


def test_all_who_read_pictures_turn_them(tmp_path):
    """Frames, tables, conditions of the cache and the demo's first frame: the same picture, turned."""
    upright = corner(90, (SIZE[1], SIZE[0]))
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its side
    stored = Image.fromarray(np.rot90(upright))
    data = encoded(stored, exif=exif)
    for number in range(9):
        (tmp_path / "set" / "e").mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / "e" / f"{number}.png").write_bytes(data)
    source = open_source(tmp_path / "set")
    assert np.array_equal(source.frames(source.entries[0], [0])[0], upright)
    table = write_lerobot(tmp_path / "le", [{"episode_index": 0, "length": 12}], lengths=[12], column=lambda *_: data)
    source = open_source(table)
    assert np.array_equal(source.frames(source.entries[0], [3])[0], upright)
    file = tmp_path / "set" / "e" / "0.png"
    assert np.array_equal(read_first_frame(file), upright)
    spec = PlannerSpec(cell_height=SIZE[1], cell_width=SIZE[0], condition_tokens="first_cell")
    assert np.array_equal(read_condition(file, spec), upright)


@pytest.mark.parametrize("value", ["bytes", "path", "struct of a path", "rows", "planes", "floats"])
def test_pictures_in_every_form_of_a_table(tmp_path, value):
    frames = [[noise(seed=10 * e + s) for s in range(12)] for e in range(2)]

    def column(episode, step):
        frame = frames[episode][step]
        name = f"images/{CAMERA}/{episode}_{step}.png"
        if "path" in value:
            write_frames(tmp_path / "set" / "images" / CAMERA, [frame], f"{episode}_{step}.png")
        forms = {"bytes": lambda: png(frame), "path": lambda: name, "rows": frame.tolist,
                 "struct of a path": lambda: {"bytes": None, "path": name}, "planes": frame.transpose(2, 0, 1).tolist,
                 "floats": lambda: (frame / 255).tolist()}  # fmt: skip
        return forms[value]()

    rows = [{"episode_index": number, "length": 12, "tasks": ["push"]} for number in range(2)]
    (tmp_path / "set" / "images").mkdir(parents=True)
    source = open_source(write_lerobot(tmp_path / "set", rows, column=column))
    for entry, expected in zip(source.entries, frames, strict=True):
        assert np.array_equal(source.frames(entry, range(12)), np.stack(expected))

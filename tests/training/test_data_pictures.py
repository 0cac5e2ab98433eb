"""One decoder of pictures and one of videos: turned, transparent, deep, and with frames at their times."""

import io
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image, ImageOps

from launcher.demo_inputs import read_picture as read_first_frame
from support.data_files import SIZE, config_of, corner, lines_of, plain, png, write_frames, write_lerobot, write_video
from training.cache.write import read_condition
from training.data.prepare import prepare
from training.data.sources import open_source
from training.data.sources.pictures import picture_size, read_picture
from training.data.sources.video import VideoFile
from training.errors import TrainingError
from visual_planner.grid.frame import to_bytes, to_rgb
from visual_planner.planner.spec import PlannerSpec


def encoded(image, kind="PNG", **settings):
    stream = io.BytesIO()
    image.save(stream, kind, **settings)
    return stream.getvalue()


def noise(size=SIZE, channels=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*size, channels), np.uint8)


# --- pictures ---


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


def test_the_size_of_a_header_is_that_of_the_turned_picture(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(corner()).save(tmp_path / "a.jpg", exif=exif)
    assert picture_size(tmp_path / "a.jpg", "x") == (SIZE[1], SIZE[0])


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


# --- videos ---


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".MP4"])
@pytest.mark.parametrize("turned", [0, 90, 180, 270])
def test_videos_are_turned_as_their_display_matrix_says(tmp_path, suffix, turned):
    if suffix == ".MP4":
        write_video(tmp_path / "a.mp4", [corner(90)] * 9, turned=turned).rename(tmp_path / "a.MP4")
        file = tmp_path / "a.MP4"
    else:
        file = write_video(tmp_path / f"a{suffix}", [corner(90)] * 9, turned=turned)
    with av.open(str(file)) as container:
        frame = next(container.decode(video=0))
        # FFmpeg says how far it is turned against the clock
        expected = np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90)
        assert frame.rotation % 360 in (turned, -turned % 360)
    assert np.array_equal(VideoFile(file).at([0, 5])[1], expected)


@pytest.mark.parametrize(
    ("aspect", "size"), [(Fraction(4, 3), (48, 85)), (Fraction(1, 2), (96, 64)), (Fraction(1), SIZE)]
)
def test_pixels_become_square(tmp_path, aspect, size):
    file = write_video(tmp_path / "a.mp4", [corner(90)] * 9, aspect=aspect)
    picture = VideoFile(file).at([2])[0]
    assert picture.shape[:2] == size
    assert picture[size[0] // 6, size[1] // 6, 0] > 200 and picture[size[0] // 6, -size[1] // 6, 1] > 200


@pytest.mark.parametrize(
    ("suffix", "codec", "pix_fmt"),
    [("mov", "png", "rgba"), ("mkv", "ffv1", "bgra"), ("webm", "libvpx-vp9", "yuva420p")],
)
def test_transparent_videos_lie_over_black(tmp_path, suffix, codec, pix_fmt):
    rgba = np.dstack([plain(255), np.zeros(SIZE, np.uint8)])
    rgba[:, :32, 3] = 255
    picture = VideoFile(write_video(tmp_path / f"a.{suffix}", [rgba] * 9, codec, pix_fmt)).at([4])[0]
    assert picture[:, :28].min() > 245 and picture[:, 36:].max() < 10


def test_ten_bit_videos_are_read(tmp_path):
    video = VideoFile(write_video(tmp_path / "a.mkv", [plain(v) for v in range(20, 200, 20)], "libx265", "yuv420p10le"))
    assert np.abs(video.at(range(9)).mean(axis=(1, 2, 3)) - np.arange(20, 200, 20)).max() <= 3


@pytest.mark.parametrize("suffix", ["avi", "mp4", "mkv", "mov"])
@pytest.mark.parametrize("bframes", ["0", "3"])
def test_b_frames_are_in_order_in_any_container(tmp_path, suffix, bframes):
    shades = list(range(20, 220, 10))
    moving = [np.roll(corner(shade), number, axis=1) for number, shade in enumerate(shades)]
    video = VideoFile(write_video(tmp_path / f"a.{suffix}", moving, bf=bframes, g="8"))
    assert len(video.times) == len(shades)
    assert np.allclose(np.diff(video.times), 0.1, atol=2e-3)
    for index in [0, 19, 7, 3, 12, 4, 5, 18]:
        assert abs(int(video.at([index])[0][-8:].mean()) - shades[index]) <= 3
    assert len(video.thumbnails(range(20))) == 20


def test_an_edit_list_hides_what_it_leaves_out(tmp_path):
    """As phones cut a recording: the file holds all frames, and says which ones are shown."""
    shades = list(range(20, 220, 10))
    file = write_video(tmp_path / "a.mp4", [plain(shade) for shade in shades], bf="0", g="5")
    data = bytearray(file.read_bytes())
    at = data.index(b"elst") + 4
    assert data[at] == 0 and int.from_bytes(data[at + 4 : at + 8], "big") == 1
    scale = data.index(b"mdhd") + 4 + 12
    unit = int.from_bytes(data[scale : scale + 4], "big")
    data[at + 12 : at + 16] = (unit // 2 + 1).to_bytes(4, "big")  # shown from half a second on
    file.write_bytes(data)
    video = VideoFile(file)
    with av.open(str(file)) as container:
        expected = [frame.to_ndarray(format="rgb24").mean() for frame in container.decode(video=0)]
    assert 10 <= len(expected) < 20 and len(video.times) == len(expected)
    assert np.allclose(video.at(range(len(expected))).mean(axis=(1, 2, 3)), expected)


TIMES = [0, 0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.08, 0.09, 1.0, 2.0]


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_frames_of_a_variable_rate_are_chosen_by_time(tmp_path, suffix):
    frames = [plain(20 + 15 * number) for number in range(12)]
    write_video(tmp_path / "set" / f"a.{suffix}", frames, times=TIMES)
    (tmp_path / "set" / "instructions.txt").write_text("push")
    prepare(config_of(tmp_path, tmp_path / "set", (1, 3)))
    grid = read_picture(tmp_path / "pairs" / lines_of(tmp_path)[0]["target"], "x")
    shades = [int(grid[24, 32 + 64 * cell, 0]) for cell in range(3)]
    assert np.abs(np.array(shades) - [20, 170, 185]).max() <= 3


@pytest.mark.parametrize("stamp", ["{:.2f}.png", "frame_{:.3f}.jpg", "seconds", "nanoseconds"])
def test_names_that_are_times_are_times(tmp_path, stamp):
    names = {"seconds": lambda t: f"{1_700_000_000 + round(t * 100)}.png",
             "nanoseconds": lambda t: f"cam_{1_700_000_000_000_000_000 + round(t * 1e9)}.png"}  # fmt: skip
    name = names.get(stamp, stamp.format)
    scale = 100 if stamp == "seconds" else 1
    (tmp_path / "set" / "e").mkdir(parents=True)
    for number in np.random.default_rng(0).permutation(12):
        Image.fromarray(plain(20 + 15 * number)).save(tmp_path / "set" / "e" / name(TIMES[number]), quality=95)
    source = open_source(tmp_path / "set")
    entry = source.entries[0]
    assert np.allclose(source.times(entry) - source.times(entry)[0], scale * np.array(TIMES), atol=1e-6)
    assert np.abs(source.frames(entry, range(12)).mean(axis=(1, 2, 3)) - (20 + 15 * np.arange(12))).max() <= 2


@pytest.mark.parametrize("names", [[f"{n}.png" for n in range(12)], [f"1.{n}.png" for n in range(1, 13)],
                                   [f"a{n}b.png" for n in range(7, 19)]])  # fmt: skip
def test_names_that_are_numbers_are_no_times(tmp_path, names):
    (tmp_path / "set" / "e").mkdir(parents=True)
    for number, name in enumerate(names):
        Image.fromarray(plain(20 + number)).save(tmp_path / "set" / "e" / name)
    source = open_source(tmp_path / "set")
    assert source.times(source.entries[0]) is None
    assert source.frames(source.entries[0], range(12))[:, 0, 0, 0].tolist() == list(range(20, 32))


@pytest.mark.parametrize("rate", [5, 30])
@pytest.mark.parametrize("rule", ["uniform", "trim", "motion"])
def test_a_tables_times_choose_the_frames_of_a_video_of_another_rate(tmp_path, rate, rule):
    """24 rows in 2.4 s, of which the last third moves; the video has more frames, or fewer."""
    from support.data_files import CAMERA, INFO

    info = {**INFO, "features": {**INFO["features"], CAMERA: {"dtype": "video"}}}
    folder = write_lerobot(tmp_path / "set", [{"episode_index": 0, "length": 24, "tasks": ["x"]}], info, lengths=[24])
    count = 24 * rate // 10
    frames = [np.roll(corner(90), max(0, number - 2 * count // 3) * 30 // rate, axis=1) for number in range(count)]
    file = folder / "videos" / "chunk-000" / CAMERA / "episode_000000.mp4"
    write_video(file, frames, times=[number / rate for number in range(count)])
    source = open_source(folder)
    entry = source.entries[0]
    small = source.thumbnails(entry)
    still = np.abs(np.diff(small[:15].astype(int), axis=0)).max()
    assert len(small) == 24 and still <= 4 and np.abs(small[23].astype(int) - small[0]).max() > 60
    prepare(config_of(tmp_path, folder, frames=rule))
    grid = read_picture(tmp_path / "pairs" / lines_of(tmp_path)[0]["target"], "x")
    last = source.frames(entry, [23])[0]
    assert np.array_equal(grid[-48:, -64:], last)
    if rule != "uniform":
        moving = [grid[48 * (cell // 3) :, 64 * (cell % 3) :][:48, :64] for cell in (4, 3, 6, 7)]
        assert all(np.abs(cell.astype(int) - grid[:48, :64]).max() > 60 for cell in moving)


@pytest.mark.parametrize("value", ["bytes", "path", "struct of a path", "rows", "planes", "floats"])
def test_pictures_in_every_form_of_a_table(tmp_path, value):
    frames = [[noise(seed=10 * e + s) for s in range(12)] for e in range(2)]

    def column(episode, step):
        frame = frames[episode][step]
        name = f"images/{CAMERA_NAME}/{episode}_{step}.png"
        if "path" in value:
            write_frames(tmp_path / "set" / "images" / CAMERA_NAME, [frame], f"{episode}_{step}.png")
        forms = {"bytes": lambda: png(frame), "path": lambda: name, "rows": frame.tolist,
                 "struct of a path": lambda: {"bytes": None, "path": name}, "planes": frame.transpose(2, 0, 1).tolist,
                 "floats": lambda: (frame / 255).tolist()}  # fmt: skip
        return forms[value]()

    rows = [{"episode_index": number, "length": 12, "tasks": ["push"]} for number in range(2)]
    (tmp_path / "set" / "images").mkdir(parents=True)
    source = open_source(write_lerobot(tmp_path / "set", rows, column=column))
    for entry, expected in zip(source.entries, frames, strict=True):
        assert np.array_equal(source.frames(entry, range(12)), np.stack(expected))


CAMERA_NAME = "front"

"""One decoder of videos: turned, transparent, deep, and with frames at their times."""

from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from support.data_files import CAMERA, INFO, SIZE, config_of, corner, lines_of, plain, write_lerobot, write_video
from training.data.prepare import prepare
from training.data.sources import open_source
from training.data.sources.pictures import read_picture
from training.data.sources.video import VideoFile
from training.errors import TrainingError


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


LISTS = {
    "concat": "ffconcat version 1.0\nfile other.dat\n",
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nother.dat\n#EXT-X-ENDLIST\n",
    "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
    'profiles="urn:mpeg:dash:profile:isoff-live:2011" mediaPresentationDuration="PT1S"><Period><AdaptationSet '
    'mimeType="video/mp4"><Representation id="1" bandwidth="1"><BaseURL>other.dat</BaseURL></Representation>'
    "</AdaptationSet></Period></MPD>",
    "sdp": "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=video 5004 RTP/AVP 96\r\n",
    "metadata": ";FFMETADATA1\ntitle=x\n",
}


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi"])
@pytest.mark.parametrize("kind", LISTS)
def test_a_list_of_other_files_is_no_video(tmp_path, kind, suffix):
    """FFmpeg would open what the list names: files beside it, or addresses."""
    write_video(tmp_path / "other.mp4", [corner(90)] * 9).rename(tmp_path / "other.dat")
    (tmp_path / f"a.{suffix}").write_text(LISTS[kind])
    with pytest.raises(TrainingError, match=rf"^video .*a\.{suffix} cannot be read: .*\)$"):
        VideoFile(tmp_path / f"a.{suffix}")


@pytest.mark.parametrize(
    ("container", "codec"),
    [("mpegts", "libx264"), ("flv", "libx264"), ("mpeg", "mpeg2video"), ("ogg", "libtheora"), ("asf", "mpeg4")],
)
def test_a_container_under_another_suffix_is_read(tmp_path, container, codec):
    if codec not in av.codecs_available:
        codec = "mpeg4" if container != "ogg" else "libvpx"
    frames = [plain(v) for v in range(20, 200, 20)]
    with av.open(str(tmp_path / "a.mp4"), "w", format=container) as written:
        stream = written.add_stream(codec, 25)
        stream.height, stream.width, stream.pix_fmt = *SIZE, "yuv420p"
        for frame in frames:
            written.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        written.mux(stream.encode())
    video = VideoFile(tmp_path / "a.mp4")
    assert np.abs(video.at(range(9)).mean(axis=(1, 2, 3)) - np.arange(20, 200, 20)).max() <= 4


def test_a_cover_is_not_the_video(tmp_path):
    with av.open(str(tmp_path / "a.mp4"), "w") as written:
        cover, stream = written.add_stream("mjpeg", 1), written.add_stream("libx264", 10)
        cover.disposition = av.stream.Disposition.attached_pic
        for made, size, pix_fmt in ((cover, (32, 32), "yuvj420p"), (stream, SIZE, "yuv420p")):
            made.height, made.width, made.pix_fmt = *size, pix_fmt
        written.mux(cover.encode(av.VideoFrame.from_ndarray(plain(200, (32, 32)), "rgb24")))
        for step in range(9):
            written.mux(stream.encode(av.VideoFrame.from_ndarray(plain(20 + step), "rgb24")))
        written.mux(stream.encode())
    video = VideoFile(tmp_path / "a.mp4")
    assert len(video.times) == 9 and video.at([0])[0].shape[:2] == SIZE


def test_a_still_alone_is_no_video(tmp_path):
    Image.fromarray(corner(90)).save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "a.mp4")
    with pytest.raises(TrainingError, match="a format that is no video in itself"):
        VideoFile(tmp_path / "a.mp4")


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


@pytest.mark.parametrize(("codec", "bframes"), [("libx264", "1"), ("libx264", "3"), ("mpeg4", "1")])
def test_avi_with_b_frames_and_a_variable_rate_has_its_times(tmp_path, codec, bframes):
    """The container says only when packets are decoded, which is earlier than frames are shown."""
    times = [0, 0.1, 0.2, 0.3, 1.5, 1.6, 2.9, 3.0, 3.1, 3.9, 4.0, 4.1]
    moving = [np.roll(corner(20 + 15 * number), number, axis=1) for number in range(len(times))]
    video = VideoFile(write_video(tmp_path / "a.avi", moving, codec, times=times, bf=bframes, g="8"))
    assert np.allclose(video.times, times, atol=2e-3)


@pytest.mark.parametrize("times", [None, [0, 0.1, 0.2, 0.3, 1.5, 1.6, 2.9, 3.0]])
@pytest.mark.parametrize("codec", ["mpeg4", "mjpeg", "libx264"])
def test_empty_packets_of_avi_are_no_lost_frames(tmp_path, codec, times):
    """A recorder writes an empty packet where a camera dropped a frame; a file that is cut off is told apart."""
    shades = list(range(20, 180, 20))
    form = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    options = {"bf": "0"} if codec == "libx264" else {}
    file = write_video(tmp_path / "a.avi", [plain(shade) for shade in shades], codec, form, times=times, **options)
    video = VideoFile(file)
    expected = np.arange(8) / 10 if times is None else np.array(times)
    assert np.allclose(video.times - video.times[0], expected, atol=2e-3)
    assert np.abs(video.at(range(8)).mean(axis=(1, 2, 3)) - shades).max() <= 6
    data = file.read_bytes()
    for part in (0.9, 0.5, 0.3):
        file.write_bytes(data[: int(part * len(data))])
        with pytest.raises(TrainingError, match=r"a\.avi (is truncated: its header announces|cannot be read)"):
            VideoFile(file)


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


@pytest.mark.parametrize(
    "stamp", ["{:.2f}.png", "frame_{:.3f}.jpg", "seconds", "nanoseconds", "clock", "comma", "short"]
)
def test_names_that_are_times_are_times(tmp_path, stamp):
    names = {"seconds": lambda t: f"{1_700_000_000 + round(t * 100)}.png",
             "nanoseconds": lambda t: f"cam_{1_700_000_000_000_000_000 + round(t * 1e9)}.png",
             "clock": lambda t: f"1{700_000_000 + int(t)}_{round(t % 1 * 1e9):09d}.png",
             "comma": lambda t: f"t={t:.3f}s.png".replace(".", ",", 1), "short": lambda t: f"{t:g}.png"}  # fmt: skip
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

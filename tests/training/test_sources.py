"""Sources: data sets that other libraries wrote give the right frames, instructions and lengths, frame by frame."""

import csv
import json
import pickle
import shutil
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from training.data.sources import open_source
from training.data.sources.rlds.crc32c import crc32c, masked_crc32c
from training.data.sources.video import VideoFile
from training.errors import TrainingError

DATA = Path(__file__).parent / "data"
LEROBOT_TASKS = ("pick up the red cup", "open the drawer")


def check_frames(source, lengths, value, tolerance):
    """Every frame of every episode has the value of its own that it was written with, in any order of asking."""
    source = pickle.loads(pickle.dumps(source))  # as another process has it
    assert [entry.length for entry in source.entries] == lengths
    for episode, entry in reversed(list(enumerate(source.entries))):
        frames = source.frames(entry, range(entry.length))
        assert frames.dtype == np.uint8 and frames.shape[0] == entry.length and frames.shape[3] == 3
        expected = np.array([value(episode, step) for step in range(entry.length)])
        assert np.abs(frames.reshape(len(frames), -1).astype(int) - expected[:, None]).max() <= tolerance
        picked = [0, entry.length // 2, entry.length // 2, entry.length - 1]
        assert np.array_equal(source.frames(entry, picked), frames[picked])
        small = source.thumbnails(entry)
        assert len(small) == entry.length
        assert np.abs(small.reshape(len(small), -1).mean(axis=1) - expected).max() <= tolerance + 1


@pytest.mark.parametrize(
    ("name", "cameras"),
    [
        ("jaco_play", ("image", "image_wrist")),
        ("bridge_dataset", ("image_0", "image_1")),
        ("fractal20220817_data", ("image",)),
    ],
)
def test_rlds_shards_written_by_tensorflow_datasets(name, cameras):
    for number, camera in enumerate(cameras):
        source = open_source(DATA / "rlds" / name, camera=camera)
        assert source.format == "rlds" and len(source.cameras) == len(cameras)
        check_frames(source, [10, 13, 16], lambda e, s, n=number: 20 + 70 * n + 20 * e + s, 2)
        assert [entry.instruction for entry in source.entries] == [f"pick up the cup number {e}" for e in range(3)]
        states = source.positions(source.entries[2], "")
        assert np.allclose(states, np.arange(7) + 2 + np.arange(16)[:, None] / 100)


@pytest.mark.parametrize(
    ("name", "camera", "number"),
    [
        ("v30_video", "front", 0),
        ("v30_video", "observation.images.wrist", 1),
        ("v30_image", "front", 0),
        ("v21", "", 0),
    ],
)
def test_lerobot_sets(name, camera, number):
    source = open_source(DATA / "lerobot" / name, camera=camera)
    assert source.format == "lerobot"
    check_frames(source, [10, 13, 16], lambda e, s: 30 + 60 * number + 25 * e + s, 2)
    assert [entry.instruction for entry in source.entries] == [LEROBOT_TASKS[e % 2] for e in range(3)]
    states = source.positions(source.entries[1], "")
    assert np.allclose(states[:, :2], [[1, step / 10] for step in range(13)])


def test_the_lerobot_videos_are_what_they_say():
    codecs = set()
    for file in (DATA / "lerobot").rglob("*.mp4"):
        with av.open(str(file)) as container:
            codecs.add(container.streams.video[0].codec_context.codec.canonical_name)
    assert codecs == {"av1", "h264"}


def test_a_task_text_is_found_wherever_the_format_keeps_it(tmp_path):
    shutil.copytree(DATA / "lerobot" / "v21", tmp_path / "set")
    file = tmp_path / "set" / "meta" / "episodes.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    for change in (
        {"tasks": [1]},
        {"tasks": None},
    ):  # numbers of texts; or nothing, so that the table's task_index counts
        file.write_text("\n".join(json.dumps({**row, **change}) for row in rows) + "\n")
        texts = [entry.instruction for entry in open_source(tmp_path / "set").entries]
        assert texts == ([LEROBOT_TASKS[1]] * 3 if change["tasks"] else [LEROBOT_TASKS[e % 2] for e in range(3)])


@pytest.mark.parametrize("name", ["lerobot/v30_video", "rlds/jaco_play"])
def test_a_wrong_camera_lists_those_there_are(name):
    cameras = ("front", "wrist") if "lerobot" in name else ("image", "image_wrist")
    with pytest.raises(TrainingError, match=rf"camera must be one of \S*{cameras[0]}, \S*{cameras[1]} in .*got 'side'"):
        open_source(DATA / name, camera="side")


def write_video(file, values, size=(48, 64), codec="libx264", **options):
    file.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(file), "w") as container:
        stream = container.add_stream(codec, 10)
        stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
        stream.options = {"crf": "10", **options}
        for value in values:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((*size, 3), value, np.uint8), "rgb24")))
        container.mux(stream.encode())
    return file


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_any_frame_of_a_video_is_reached_from_any_other(tmp_path, suffix):
    values = list(range(20, 220, 4))
    video = VideoFile(write_video(tmp_path / f"a.{suffix}", values, bf="3", g="12"))
    for index in np.random.default_rng(0).permutation(len(values)):
        assert abs(int(video.at([index])[0].mean()) - values[index]) <= 2


def test_folders_of_videos_with_instructions_of_each_kind(tmp_path):
    values = {"a": range(20, 60, 2), "sub/b": range(100, 130, 2)}
    for name, shades in values.items():
        write_video(tmp_path / f"{name}.mp4", shades)
    rows = [("a.mp4", "push, then wait"), ("sub/b.mp4", "pull")]
    forms = {
        "csv": "file,instruction\n" + "".join(f'"{name}","{text}"\n' for name, text in rows),
        "jsonl": "".join(json.dumps({"file_name": name, "text": text}) + "\n" for name, text in rows),
        "txt": "".join(f"{name}\t{text}\n" for name, text in rows),
    }
    for suffix, text in forms.items():
        file = tmp_path / f"instructions.{suffix}"
        file.write_text(text)
        source = open_source(tmp_path)
        assert source.format == "videos"
        assert [(entry.id, entry.instruction) for entry in source.entries] == [
            ("a", "push, then wait"),
            ("sub__b", "pull"),
        ]
        file.unlink()
    check_frames(source, [20, 15], lambda e, s: list(values.values())[e][s], 2)
    (tmp_path / "instructions.csv").write_text("file,instruction\nc.mp4,push\n")
    with pytest.raises(TrainingError, match=r"instructions name 1 files that do not exist in .*: c\.mp4"):
        open_source(tmp_path)
    with (tmp_path / "instructions.csv").open("w") as stream:
        csv.writer(stream).writerows([("file", "instruction"), ("a", "x"), ("a", "y")])
    with pytest.raises(TrainingError, match="line 3 names 'a' a second time"):
        open_source(tmp_path)


def test_folders_of_frames_are_read_in_the_order_of_their_numbers(tmp_path):
    for episode in range(2):
        for camera, shade in (("front", 0), ("side", 100)):
            folder = tmp_path / f"run{episode}" / camera
            folder.mkdir(parents=True)
            for step in range(12):
                Image.new("RGB", (32, 24), (shade + 20 * episode + step,) * 3).save(folder / f"{step}.png")
        (tmp_path / f"run{episode}" / "instruction.txt").write_text(f"task {episode}\n")
    source = open_source(tmp_path, camera="side")
    assert (source.format, source.cameras) == ("frames", ("front", "side"))
    check_frames(source, [12, 12], lambda e, s: 100 + 20 * e + s, 0)
    assert [entry.instruction for entry in source.entries] == ["task 0", "task 1"]


def test_truncated_videos_and_shards_are_named(tmp_path):
    video = write_video(tmp_path / "videos" / "a.mp4", range(20, 120, 2))
    whole = video.read_bytes()
    video.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(TrainingError, match=r"video .*a\.mp4 cannot be read: .*damaged or truncated"):
        open_source(tmp_path / "videos")
    write_video(video, range(20, 120, 2), movflags="faststart")
    shard = tmp_path / "train.tfrecord-00000-of-00001"
    data = next((DATA / "rlds" / "jaco_play").glob("*00000-of*")).read_bytes()
    shard.write_bytes(data[:-100])
    with pytest.raises(TrainingError, match="record 1 of .* is truncated: it must have 11049 bytes, got 10953"):
        open_source(shard)
    shard.write_bytes(data[:500] + bytes([data[500] ^ 1]) + data[501:])
    with pytest.raises(TrainingError, match=r"record 0 of .* has a wrong checksum"):
        open_source(shard)


def test_a_lerobot_video_that_ends_early_is_named(tmp_path):
    shutil.copytree(DATA / "lerobot" / "v21", tmp_path / "set")
    file = sorted((tmp_path / "set").rglob("*.mp4"))[2]
    write_video(file, range(80, 90))
    source = open_source(tmp_path / "set")
    with pytest.raises(
        TrainingError, match=r"video .*episode_000002\.mp4 has no frame at 1\.000 s: it runs from 0\.000 to"
    ):
        source.frames(source.entries[2], range(16))
    file.unlink()
    with pytest.raises(TrainingError, match="video .*episode_000001\\.mp4 does not exist"):
        sorted((tmp_path / "set").rglob("*.mp4"))[1].unlink()
        source.frames(source.entries[1], [0])


def test_templates_do_not_lead_out_of_the_folder(tmp_path):
    shutil.copytree(DATA / "lerobot" / "v21", tmp_path / "set")
    file = tmp_path / "set" / "meta" / "info.json"
    info = json.loads(file.read_text())
    file.write_text(json.dumps({**info, "video_path": "../{episode_index}/{video_key}.mp4"}))
    with pytest.raises(TrainingError, match=r"path template .* leaves the data set's folder"):
        open_source(tmp_path / "set")
    file.write_text(json.dumps({**info, "video_path": "v" * 300 + "/{episode_index}/{video_key}.mp4"}))
    with pytest.raises(TrainingError, match=r"path template .* cannot be filled: File name too long"):
        open_source(tmp_path / "set")
    Image.new("RGB", (8, 8)).save(tmp_path / "out.png")
    lines = tmp_path / "set" / "pairs.jsonl"
    lines.write_text(json.dumps({"source": "../out.png", "target": "../out.png", "caption": "x"}) + "\n")
    with pytest.raises(TrainingError, match=r"source of .* line 1 must lie in"):
        open_source(lines)


def test_a_hub_id_without_a_network_is_a_line(monkeypatch, tmp_path):
    huggingface_hub = pytest.importorskip("huggingface_hub")
    monkeypatch.chdir(tmp_path)

    def offline(*_, **__):
        raise huggingface_hub.errors.LocalEntryNotFoundError("no network")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(TrainingError, match="somebody/data is not a folder, and the Hugging Face hub cannot"):
        open_source("hf://somebody/data")


@pytest.mark.parametrize("name", ["somebody/data", "output/demonstation", "a/b", "./a/b", "output/demonstrations.v2"])
def test_a_mistyped_folder_never_goes_to_the_network(monkeypatch, tmp_path, name):
    huggingface_hub = pytest.importorskip("huggingface_hub")
    monkeypatch.chdir(tmp_path)

    def fetch(*_, **__):
        raise AssertionError("asked the hub")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    with pytest.raises(TrainingError, match=r"does not exist \(for a data set on the Hugging Face hub: hf://"):
        open_source(name)
    for other in ("frames", "videos", "grids", "simulated", "rlds"):
        with pytest.raises(TrainingError, match="does not exist"):
            open_source(name, other)


@pytest.mark.parametrize(
    "name", ["hf://", "hf://data", "hf://a/b/c", "hf://../x", "hf://a/b?c", "hf:///etc/passwd", "hf://a/\x1b"]
)
def test_what_is_no_name_on_the_hub_is_one_line(name):
    with pytest.raises(TrainingError, match=r"source must read hf://OWNER/NAME, got"):
        open_source(name)


@pytest.mark.parametrize("form", [str, Path])
@pytest.mark.parametrize(
    ("name", "format"),
    [("hf://somebody/data", "auto"), ("hf://somebody/data", "lerobot"), ("somebody/data", "lerobot")],
)
def test_the_hub_is_asked_where_it_is_named(monkeypatch, tmp_path, form, name, format):
    huggingface_hub = pytest.importorskip("huggingface_hub")
    monkeypatch.chdir(tmp_path)
    asked = []

    def fetch(repository, **_):
        asked.append(repository)
        return str(DATA / "lerobot" / "v30_video")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    assert len(open_source(form(name), format).entries) == 3
    assert asked == ["somebody/data"] * 2


def test_a_hub_id_is_fetched_with_the_chosen_camera_alone(monkeypatch, tmp_path):
    huggingface_hub = pytest.importorskip("huggingface_hub")
    monkeypatch.chdir(tmp_path)
    asked = []

    def fetch(repository, repo_type, allow_patterns):
        asked.append((repository, repo_type, allow_patterns))
        return str(DATA / "lerobot" / "v30_video")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    source = open_source("hf://somebody/data", camera="wrist")
    assert source.camera == "observation.images.wrist"
    assert [call[:2] for call in asked] == [("somebody/data", "dataset")] * 2
    assert not any("front" in pattern for pattern in asked[1][2])


def test_checksums_are_those_of_the_standard():
    # RFC 3720, B.4
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(bytes([255] * 32)) == 0x62A8AB43
    data = np.random.default_rng(0).integers(0, 256, 300_001, dtype=np.uint8).tobytes()
    register = 0xFFFFFFFF
    for byte in data:
        register ^= byte
        for _ in range(8):
            register = (register >> 1) ^ (0x82F63B78 if register & 1 else 0)
    assert crc32c(data) == register ^ 0xFFFFFFFF
    assert masked_crc32c(b"") == 0xA282EAD8

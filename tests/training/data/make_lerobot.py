"""Writes the LeRobot fixtures with lerobot itself; run it in an environment of its own (Python 3.12 or newer).

    pip install "lerobot[dataset]"
    python make_lerobot.py

v3.0: two cameras as AV1 videos, and one as pictures in the tables. v2.1 was written by older releases only: it is made
here by the layout's documentation, H.264 by PyAV. Every frame is of one grey value, which `pixel` gives.
"""

import json
import shutil
from importlib.metadata import version
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from lerobot.datasets.lerobot_dataset import LeRobotDataset

HERE = Path(__file__).resolve().parent / "lerobot"
SIZE, FPS, EPISODES = (48, 64), 10, 3
TASKS = ("pick up the red cup", "open the drawer")


def length(episode):
    return 10 + 3 * episode


def pixel(camera, episode, step):
    return 30 + 60 * camera + 25 * episode + step


def state(episode, step):
    return np.array([episode, step / 10, 0.5, 1.0], np.float32)


def picture(camera, episode, step):
    return np.full((*SIZE, 3), pixel(camera, episode, step), np.uint8)


def write_v3(name, use_videos):
    kind = "video" if use_videos else "image"
    cameras = ["observation.images.front", "observation.images.wrist"][: 2 if use_videos else 1]
    pictured = {"dtype": kind, "shape": (*SIZE, 3), "names": ["height", "width", "channels"]}
    features = {
        **dict.fromkeys(cameras, pictured),
        "observation.state": {"dtype": "float32", "shape": (4,), "names": ["x", "y", "z", "gripper"]},
        "action": {"dtype": "float32", "shape": (4,), "names": ["x", "y", "z", "gripper"]},
    }
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    data = LeRobotDataset.create(repo_id=f"test/{name}", fps=FPS, features=features, root=folder, use_videos=use_videos)
    for episode in range(EPISODES):
        for step in range(length(episode)):
            frame = {camera: picture(number, episode, step) for number, camera in enumerate(cameras)}
            data.add_frame(
                {
                    **frame,
                    "observation.state": state(episode, step),
                    "action": state(episode, step),
                    "task": TASKS[episode % 2],
                }
            )
        data.save_episode()
    data.finalize()


def write_v21():
    folder, camera = HERE / "v21", "observation.images.front"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "meta").mkdir(parents=True)
    numbers = {"dtype": "int64", "shape": [1], "names": None}
    info = {
        "codebase_version": "v2.1",
        "robot_type": "none",
        "total_episodes": EPISODES,
        "total_frames": sum(map(length, range(EPISODES))),
        "total_tasks": 2,
        "total_videos": EPISODES,
        "total_chunks": 2,
        "chunks_size": 2,
        "fps": FPS,
        "splits": {"train": f"0:{EPISODES}"},
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
        "features": {
            camera: {"dtype": "video", "shape": [*SIZE, 3], "names": ["height", "width", "channel"]},
            "observation.state": {"dtype": "float32", "shape": [4], "names": ["x", "y", "z", "gripper"]},
            **dict.fromkeys(("frame_index", "episode_index", "index", "task_index"), numbers),
            "timestamp": {"dtype": "float32", "shape": [1], "names": None},
        },
    }
    (folder / "meta" / "info.json").write_text(json.dumps(info, indent=4))
    rows = [json.dumps({"task_index": number, "task": task}) for number, task in enumerate(TASKS)]
    (folder / "meta" / "tasks.jsonl").write_text("\n".join(rows) + "\n")
    rows, start = [], 0
    for episode in range(EPISODES):
        count, steps = length(episode), np.arange(length(episode))
        rows.append(json.dumps({"episode_index": episode, "tasks": [TASKS[episode % 2]], "length": count}))
        columns = {
            "observation.state": pa.array([state(episode, step).tolist() for step in steps], pa.list_(pa.float32(), 4)),
            "timestamp": pa.array(steps / FPS, pa.float32()),
            "frame_index": steps,
            "episode_index": np.full(count, episode),
            "index": steps + start,
            "task_index": np.full(count, episode % 2),
        }
        start += count
        file = folder / info["data_path"].format(episode_chunk=episode // 2, episode_index=episode)
        file.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(columns), file)
        video = folder / info["video_path"].format(episode_chunk=episode // 2, video_key=camera, episode_index=episode)
        video.parent.mkdir(parents=True, exist_ok=True)
        write_video(video, [picture(0, episode, step) for step in steps])
    (folder / "meta" / "episodes.jsonl").write_text("\n".join(rows) + "\n")


def write_video(file, frames):
    with av.open(str(file), "w") as container:
        stream = container.add_stream("libx264", FPS)
        stream.height, stream.width, stream.pix_fmt = *SIZE, "yuv420p"
        stream.options = {"crf": "10", "bf": "2", "g": "7"}  # with frames that refer to later ones
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        container.mux(stream.encode())


if __name__ == "__main__":
    write_v3("v30_video", True)
    write_v3("v30_image", False)
    write_v21()
    written = {name: version(name) for name in ("lerobot", "datasets", "pyarrow", "av")}
    (HERE / "written_by.json").write_text(json.dumps(written, indent=2) + "\n")

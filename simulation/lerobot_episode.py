"""Actions as a LeRobot data set of one episode (format v3.0): tables in Parquet, pictures in a video."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from .errors import SimulationError
from .files import new_folder
from .joint_trajectory import JointTrajectory
from .model import ARM_JOINTS, CONTROL_HZ

FPS = 10
CAMERA = "observation.images.front"
_TABLE = "data/chunk-000/file-000.parquet"
_VIDEO = f"videos/{CAMERA}/chunk-000/file-000.mp4"
_EPISODES = "meta/episodes/chunk-000/file-000.parquet"


def write_lerobot(folder: str | Path, actions: JointTrajectory, frames: np.ndarray, instruction: str) -> Path:
    """Write one episode of 10 rows per second: state and action are six joints [rad] and the gripper [0..1].

    The action of a row is the state one row later; the picture of a row is the latest keyframe's.

    Args:
        folder: data set to write; it must not exist yet.
        actions: the trajectory.
        frames: pictures of the keyframes (F, H, W, 3) uint8.
        instruction: the task in words.

    Raises:
        SimulationError: pyarrow or PyAV is not installed, or the folder exists already or cannot be written.
    """
    try:
        import av
        import pyarrow
    except ImportError as error:
        raise SimulationError(f"a LeRobot episode needs the package {error.name}: pip install pyarrow av") from error
    folder = Path(folder)
    if folder.exists():
        raise SimulationError(f"the LeRobot folder {folder} must not exist yet")
    if len(frames) != len(actions.keyframe_steps):
        raise SimulationError(f"frames must be one per keyframe, {len(actions.keyframe_steps)}, got {len(frames)}")
    columns, shown = _rows(actions)
    with new_folder(folder) as part:
        for name in (_TABLE, _VIDEO, _EPISODES):
            (part / name).parent.mkdir(parents=True, exist_ok=True)
        _write_table(pyarrow, part / _TABLE, columns)
        pictures = _even(frames)
        _write_video(av, part / _VIDEO, pictures[shown])
        _write_meta(pyarrow, part, columns, instruction.strip() or "execute the plan", pictures.shape[1:3])
    return folder


def _rows(actions: JointTrajectory) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Columns of the table, and for each row the number of the frame that is shown."""
    stride = CONTROL_HZ // FPS
    values = np.concatenate([actions.joints_rad, actions.gripper[:, None]], axis=1).astype(np.float32)
    count = -(-(len(values) - 1) // stride) + 1
    at = np.minimum(np.arange(count + 1) * stride, len(values) - 1)
    index = np.arange(count)
    columns = {
        "observation.state": values[at[:-1]],
        "action": values[at[1:]],
        "timestamp": (index / FPS).astype(np.float32),
        "frame_index": index,
        "episode_index": np.zeros(count, np.int64),
        "index": index,
        "task_index": np.zeros(count, np.int64),
    }
    return columns, np.searchsorted(actions.keyframe_steps, at[:-1], side="right") - 1


def _even(frames: np.ndarray) -> np.ndarray:
    """The frames with even sides, as a video needs: an odd one is extended by a pixel."""
    height, width = frames.shape[1:3]
    return np.pad(frames, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")


def _write_table(pyarrow, path: Path, columns: dict[str, np.ndarray]) -> None:
    import pyarrow.parquet as parquet

    arrays = {}
    for name, values in columns.items():
        if values.ndim == 2:
            flat = pyarrow.array(values.ravel(), pyarrow.float32())
            arrays[name] = pyarrow.FixedSizeListArray.from_arrays(flat, values.shape[1])
        else:
            arrays[name] = pyarrow.array(values)
    parquet.write_table(pyarrow.table(arrays), path)


def _write_video(av, path: Path, pictures: np.ndarray) -> None:
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.height, stream.width = pictures.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "12", "g": "2"}
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")))
        container.mux(stream.encode())


def _write_meta(pyarrow, folder: Path, columns: dict, instruction: str, size: tuple[int, int]) -> None:
    import pyarrow.parquet as parquet

    count, names = len(columns["index"]), [*ARM_JOINTS, "gripper"]
    vector = {"dtype": "float32", "shape": [len(names)], "names": names}
    number = {"dtype": "int64", "shape": [1], "names": None}
    video = {
        "dtype": "video", "shape": [*size, 3], "names": ["height", "width", "channels"],
        "info": {"video.fps": FPS, "video.codec": "h264", "video.pix_fmt": "yuv420p", "has_audio": False,
                 "video.height": size[0], "video.width": size[1], "video.channels": 3, "video.is_depth_map": False},
    }  # fmt: skip
    info = {
        "codebase_version": "v3.0", "robot_type": "jaco", "total_episodes": 1, "total_frames": count, "total_tasks": 1,
        "chunks_size": 1000, "data_files_size_in_mb": 100, "video_files_size_in_mb": 200, "fps": FPS,
        "splits": {"train": "0:1"},
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
        "features": {
            "observation.state": vector, "action": vector, CAMERA: video,
            "timestamp": {"dtype": "float32", "shape": [1], "names": None},
            **dict.fromkeys(("frame_index", "episode_index", "index", "task_index"), number),
        },
    }  # fmt: skip
    (folder / "meta" / "info.json").write_text(json.dumps(info, indent=4), encoding="utf-8")
    stats = {
        name: {
            "min": values.min(axis=0).tolist(), "max": values.max(axis=0).tolist(), "count": [count],
            "mean": values.mean(axis=0).tolist(), "std": values.std(axis=0).tolist(),
        }
        for name, values in columns.items() if values.ndim == 2
    }  # fmt: skip
    (folder / "meta" / "stats.json").write_text(json.dumps(stats, indent=4), encoding="utf-8")
    episode = {
        "episode_index": [0], "tasks": [[instruction]], "length": [count],
        "data/chunk_index": [0], "data/file_index": [0], "dataset_from_index": [0], "dataset_to_index": [count],
        f"videos/{CAMERA}/chunk_index": [0], f"videos/{CAMERA}/file_index": [0],
        f"videos/{CAMERA}/from_timestamp": [0.0], f"videos/{CAMERA}/to_timestamp": [count / FPS],
        "meta/episodes/chunk_index": [0], "meta/episodes/file_index": [0],
    }  # fmt: skip
    parquet.write_table(pyarrow.table(episode), folder / _EPISODES)
    tasks = pyarrow.table({"task_index": [0], "__index_level_0__": [instruction]})
    # LeRobot reads the tasks with pandas and takes their text from the table's index.
    index = {"name": None, "field_name": "__index_level_0__", "pandas_type": "unicode", "numpy_type": "object",
             "metadata": None}  # fmt: skip
    column = {"name": "task_index", "field_name": "task_index", "pandas_type": "int64", "numpy_type": "int64",
              "metadata": None}  # fmt: skip
    pandas = {"index_columns": ["__index_level_0__"], "column_indexes": [], "columns": [column, index],
              "creator": {"library": "pyarrow", "version": pyarrow.__version__}, "pandas_version": "2.0.0"}  # fmt: skip
    tasks = tasks.replace_schema_metadata({"pandas": json.dumps(pandas)})
    parquet.write_table(tasks, folder / "meta" / "tasks.parquet")

"""Writes the RLDS fixtures with TensorFlow Datasets itself; run it in an environment of its own.

    pip install tensorflow-cpu tensorflow-datasets pillow
    python make_rlds.py

Each data set has the field names of its original (Jaco Play, Bridge V2, RT-1), two shards, and pictures whose pixels
all have the value that `pixel` gives, so that a test can tell each frame of each episode from any other.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

HERE = Path(__file__).resolve().parent
EPISODES, SIZE = 3, (24, 32)
IMAGE = tfds.features.Image(shape=(*SIZE, 3), dtype=np.uint8, encoding_format="png")
JPEG = tfds.features.Image(shape=(*SIZE, 3), dtype=np.uint8, encoding_format="jpeg")


def length(episode):
    return 10 + 3 * episode


def pixel(camera, episode, step):
    return 20 + 70 * camera + 20 * episode + step


def picture(camera, episode, step):
    return np.full((*SIZE, 3), pixel(camera, episode, step), np.uint8)


def instruction(episode):
    return f"pick up the cup number {episode}"


def steps(features):
    return tfds.features.Dataset(
        {
            **features,
            "is_first": tf.bool,
            "is_last": tf.bool,
            "action": tfds.features.Tensor(shape=(7,), dtype=tf.float32),
        }
    )


def state(episode, step, size):
    return np.arange(size, dtype=np.float32) + episode + step / 100


SETS = {
    "jaco_play": (
        {
            "observation": tfds.features.FeaturesDict(
                {
                    "image": IMAGE,
                    "image_wrist": JPEG,
                    "natural_language_instruction": tfds.features.Text(),
                    "end_effector_cartesian_pos": tfds.features.Tensor(shape=(7,), dtype=tf.float32),
                }
            )
        },
        lambda e, s: {
            "observation": {
                "image": picture(0, e, s),
                "image_wrist": picture(1, e, s),
                "natural_language_instruction": instruction(e),
                "end_effector_cartesian_pos": state(e, s, 7),
            }
        },
    ),
    "bridge_dataset": (
        {
            "language_instruction": tfds.features.Text(),
            "observation": tfds.features.FeaturesDict(
                {
                    "image_0": JPEG,
                    "image_1": IMAGE,
                    "state": tfds.features.Tensor(shape=(7,), dtype=tf.float32),
                }
            ),
        },
        lambda e, s: {
            "language_instruction": instruction(e),
            "observation": {"image_0": picture(0, e, s), "image_1": picture(1, e, s), "state": state(e, s, 7)},
        },
    ),
    "fractal20220817_data": (
        {
            "observation": tfds.features.FeaturesDict(
                {
                    "image": JPEG,
                    "natural_language_instruction": tfds.features.Text(),
                    "base_pose_tool_reached": tfds.features.Tensor(shape=(7,), dtype=tf.float32),
                }
            ),
            "reward": tf.float32,
        },
        lambda e, s: {
            "observation": {
                "image": picture(0, e, s),
                "natural_language_instruction": instruction(e),
                "base_pose_tool_reached": state(e, s, 7),
            },
            "reward": np.float32(0),
        },
    ),
}


def write(name, features, make_step):
    features = tfds.features.FeaturesDict(
        {"steps": steps(features), "episode_metadata": tfds.features.FeaturesDict({"file_path": tfds.features.Text()})}
    )
    folder = HERE / "rlds" / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    serializer = tfds.core.example_serializer.ExampleSerializer(features.get_serialized_info())
    shards = [[0, 1], [2]]
    for number, episodes in enumerate(shards):
        file = folder / f"{name}-train.tfrecord-{number:05d}-of-{len(shards):05d}"
        with tf.io.TFRecordWriter(str(file)) as stream:
            for episode in episodes:
                count = length(episode)
                example = {
                    "steps": [
                        {
                            **make_step(episode, step),
                            "is_first": step == 0,
                            "is_last": step == count - 1,
                            "action": np.zeros(7, np.float32),
                        }
                        for step in range(count)
                    ],
                    "episode_metadata": {"file_path": f"/data/{episode}"},
                }
                stream.write(serializer.serialize_example(features.encode_example(example)))
    features.save_config(str(folder))


for dataset, (dataset_features, step_maker) in SETS.items():
    write(dataset, dataset_features, step_maker)
(HERE / "rlds" / "written_by.json").write_text(
    json.dumps({"tensorflow": tf.__version__, "tensorflow_datasets": tfds.__version__}, indent=2) + "\n"
)

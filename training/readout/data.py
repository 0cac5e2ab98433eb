"""Frames with the read-out's targets, from any source of episodes whose robot states are known."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from simulation.camera import Camera
from visual_planner.errors import ReadoutError
from visual_planner.execution.camera import View
from visual_planner.execution.readout import network_pixels
from visual_planner.grid.frame import to_bytes

from ..data.sources import Entry, Source, open_source
from ..errors import TrainingError
from ..sections.planner import ReadoutSection


@dataclass(frozen=True)
class Frames:
    """Frames of some episodes, all of one size, and the truth about them.

    Args:
        pictures: (N, height, width, 3) uint8.
        places_m: end effector in the robot's frame (N, 3) [m].
        seen: the same in the network's form (N, 3): u, v in the frame's own camera and depth or height, or the places
            themselves.
        gripper: how far it is closed (N,) [0 open, 1 closed].
        episode: number of each frame's episode (N,).
        source: number of each episode's source.
        views: camera of each episode; empty for a source without one.
        cameras: name of each episode's camera; empty where it has none.
        instructions: the robot's instruction in each episode.
    """

    pictures: np.ndarray
    places_m: np.ndarray
    seen: np.ndarray
    gripper: np.ndarray
    episode: np.ndarray
    views: tuple[View, ...]
    instructions: tuple[str, ...]
    source: tuple[int, ...]
    cameras: tuple[str, ...] = ()

    def part(self, chosen: np.ndarray) -> "Frames":
        """The frames of the given numbers."""
        parts = (values[chosen] for values in (self.pictures, self.places_m, self.seen, self.gripper, self.episode))
        return Frames(*parts, self.views, self.instructions, self.source, self.cameras)

    def of_cameras(self) -> dict[str, np.ndarray]:
        """Numbers of the frames of each camera, if there are several named ones."""
        names = np.array(self.cameras or [""])
        known = [name for name in dict.fromkeys(self.cameras) if name]
        return {name: np.flatnonzero(names[self.episode] == name) for name in known} if len(known) > 1 else {}


def load_frames(section: ReadoutSection) -> Frames:
    """All frames that the configuration names.

    Raises:
        TrainingError: a source cannot be read, has no states, or cameras are known for some episodes only.
    """
    pieces, views, instructions, numbers, cameras = [], [], [], [], []
    for number, path in enumerate(section.source):
        source = open_source(path, section.format, section.camera)
        for entry in source.entries[: section.episodes]:
            pictures, places, gripper, view = _episode(source, entry, section)
            spec = section.network()
            pixels = network_pixels(pictures, spec)
            small = ((pixels + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
            pieces.append((small, places, places if view is None else _seen(view, places, section), gripper))
            views.append(view)
            instructions.append(entry.instruction)
            numbers.append(number)
            cameras.append(_camera_name(source, entry))
    known = [view for view in views if view is not None]
    if known and len(known) < len(views):
        raise TrainingError("readout.source: all episodes must have a camera, or none of them")
    columns = [np.concatenate(column) for column in zip(*pieces, strict=True)]
    episode = np.repeat(np.arange(len(pieces)), [len(piece[0]) for piece in pieces])
    if not np.isfinite(columns[1]).all() or not np.isfinite(columns[3]).all():
        raise TrainingError("readout.source: the end effector's positions and the gripper must be finite numbers")
    return Frames(*columns, episode, tuple(known), tuple(instructions), tuple(numbers), tuple(cameras))


def _camera_name(source: Source, entry: Entry) -> str:
    """The camera's name in a simulated episode's record, if it has one."""
    name = entry.place.record.get("camera") if source.format == "simulated" else None
    return name if isinstance(name, str) else ""


def _seen(view: View, places_m: np.ndarray, section: ReadoutSection) -> np.ndarray:
    if section.third == "height":
        try:
            view.check_heights()
        except ReadoutError as error:
            raise TrainingError(f"readout.third must be depth for this camera: {error}") from None
    return view.see(places_m, section.third)


def _episode(source: Source, entry: Entry, section: ReadoutSection) -> tuple:
    """Pictures (N, h, w, 3) uint8, places (N, 3) [m], gripper (N,) [0..1] and view of an episode."""
    if source.format == "simulated":
        record = entry.place.record
        try:
            places, gripper = np.array(record["end_effector_m"], float), np.array(record["gripper"], float)
            view = View(**record["view"]) if "view" in record else None
            camera = Camera.from_json(record["camera"]) if view is None else None
        except (KeyError, TypeError, ValueError) as error:
            raise TrainingError(f"episode {entry.id} of {source.path} has no usable states: {error}") from error
        pictures = source.frames(entry, range(entry.length))
        return pictures, places, gripper, view or View(camera.eye, camera.rays(*pictures.shape[1:3]))
    states = source.positions(entry, section.states)
    if states.shape[0] != entry.length or not -states.shape[1] <= section.gripper_column < states.shape[1]:
        raise TrainingError(
            f"states of episode {entry.id} ({entry.file}) must have {entry.length} rows and a column "
            f"{section.gripper_column} with the gripper (readout.gripper_column), got shape {states.shape}"
        )
    count = min(entry.length, section.frames_per_episode)
    chosen = np.linspace(0, entry.length - 1, count).round().astype(int)
    opened, closed = section.gripper_range
    gripper = np.clip((states[chosen, section.gripper_column] - opened) / (closed - opened), 0.0, 1.0)
    view = None if section.view is None else View(section.view["eye_m"], section.view["rays"])
    return source.frames(entry, chosen.tolist()), states[chosen, :3].astype(float), gripper, view


def split(frames: Frames, held_out: int, seed: int) -> tuple[Frames, Frames]:
    """Split frames into those to train on and those of `held_out` other episodes.

    Raises:
        TrainingError: nothing would be left to train on.
    """
    episodes = np.unique(frames.episode)
    if held_out >= len(episodes):
        raise TrainingError(f"readout.held_out is {held_out}, but there are only {len(episodes)} episodes")
    chosen = np.random.default_rng(seed).permutation(episodes)[:held_out]
    out = np.isin(frames.episode, chosen)
    return frames.part(np.flatnonzero(~out)), frames.part(np.flatnonzero(out))


def through_autoencoder(
    pictures: np.ndarray, folder: Path, count: int, noise: float, seed: int
) -> dict[int, np.ndarray]:
    """Some of the pictures after a pass through an autoencoder, with noise on the latents as in generated ones.

    Args:
        pictures: (N, h, w, 3) uint8.
        folder: folder of the autoencoder (diffusers).
        count: number of pictures.
        noise: largest standard deviation of the noise on normalised latents; each picture draws its own.
        seed: seed of choice and noise.

    Returns:
        Picture (h, w, 3) uint8 by its number in `pictures`.
    """
    import torch

    from ..model.autoencoder import decode_latents, encode_pictures, load_vae

    vae = load_vae(folder)
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(pictures), generator=generator)[:count].tolist()
    made = {}
    for start in range(0, len(chosen), 32):
        part = chosen[start : start + 32]
        latents = encode_pictures(vae, pictures[part])
        level = noise * torch.rand(len(part), 1, 1, 1, generator=generator)
        decoded = decode_latents(vae, latents + level * torch.randn(latents.shape, generator=generator))
        made.update(zip(part, to_bytes(decoded), strict=True))
    return made

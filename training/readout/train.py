"""`python -m training readout`: train the read-out, measure it on unseen episodes, write weights and model card."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from visual_planner.execution.readout import ReadoutNet, ReadoutSpec, load_net

from ..errors import TrainingError
from ..files import as_record, read_json, write_json, write_tensors
from ..loop.loop import Loop, make_accelerator
from ..loop.record import make_record
from ..model.readout import WEIGHTS, open_readout
from ..sections.config import Config, save_config
from ..sections.planner import ReadoutSection
from .data import Frames, load_frames, split, through_autoencoder
from .degrade import degrade, shift
from .measure import METRICS, measure, write_card
from .planned import planned_pictures

_LEAST_SPREAD = 1e-3


def train_readout(config: Config) -> None:
    """Train (or resume training) the read-out and write it to `readout.model`."""
    section: ReadoutSection = config.section("readout")
    accelerator = make_accelerator(section)
    frames, held_out = split(load_frames(section), section.held_out, section.seed)
    net = start(section, frames).to(memory_format=torch.channels_last)
    draw = Batches(frames, section, net.spec)

    def loss_of(model: torch.nn.Module, index: int, generator: torch.Generator) -> torch.Tensor:
        pixels, cameras, places, gripper = (part.to(accelerator.device) for part in draw(generator))
        return readout_loss(*model(pixels, cameras), places, gripper)

    inputs = {"source": section.source, "vae": section.vae}
    if section.planner is not None:
        inputs |= {"planner": section.planner.folder / "transformer", "planner.lora": section.planner.lora}
    record = make_record("readout", section, inputs, processes=accelerator.num_processes)
    loop = Loop(section, net, loss_of, accelerator, record=record)
    loop.resume()
    before = training_before(section)
    finished = loop.run()
    if not accelerator.is_main_process:
        return
    loop.use_averaged()
    save_config(config, Path(section.out) / "config.yaml")
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in net.state_dict().items()}
    metadata = net.spec.to_metadata()
    write_tensors(Path(section.model) / WEIGHTS, tensors, metadata)
    figures = measure(load_net(tensors, metadata), held_out, section)
    parameters = sum(t.numel() for t in tensors.values())
    write_card(Path(section.model), figures, section, loop.step, len(frames.gripper), parameters, before)
    state = "" if finished else f" after {loop.step} of {section.max_steps} steps (the same command resumes)"
    clean = figures["clean"]
    print(
        f"read-out: {Path(section.model) / WEIGHTS}{state}; held out: median error "
        f"{clean['error_mm']['median']:.1f} mm, gripper {clean['gripper']['rate']:.1%}"
    )


def training_before(section: ReadoutSection) -> list[dict]:
    """Records of the earlier training of `init`'s network, first to last.

    They are kept with the run, because its end may overwrite the folder from which they are read.
    """
    kept = Path(section.out) / "before.json"
    if not kept.is_file():
        record = Path(section.init or "") / METRICS
        training = read_json(record, "figures").get("training") if section.init and record.is_file() else None
        with as_record(f"figures {record}"):
            before = [*training.pop("before", []), training] if training else []
        write_json(kept, {"before": before})
    with as_record(f"records of earlier training {kept}"):
        return list(read_json(kept, "records of earlier training")["before"])


def start(section: ReadoutSection, frames: Frames) -> ReadoutNet:
    """An untrained network for these frames, or the one of `init`.

    Raises:
        TrainingError: the network of `init` uses other coordinates than these frames need.
    """
    if section.sees_camera and not frames.views:
        raise TrainingError("readout.sees_camera must be false: the sources do not state their cameras' positions")
    if section.init is None:
        return ReadoutNet(spec_for(section, frames))
    net = open_readout(section.init)
    context, sees_camera = max(section.context, net.spec.context), section.sees_camera or net.spec.sees_camera
    spec = replace(net.spec, context=context, sees_camera=sees_camera)
    if frames.views and section.third != spec.third:  # its scale is new, and its meaning must be learned
        (*_, mean), (*_, spread) = scales(frames)
        mean, spread = (*spec.mean[:2], mean), (*spec.spread[:2], spread)
        spec = replace(spec, third=section.third, mean=mean, spread=spread)
    if spec != net.spec:
        weights, net = net.state_dict(), ReadoutNet(spec)
        net.load_state_dict(weights, strict=False)  # added layers have no effect yet
    net.requires_grad_(True).train()
    if (net.spec.view is None) == bool(frames.views):
        raise TrainingError(
            f"readout.init {section.init} and the sources must both have a camera view, or none of them"
        )
    return net


def spec_for(section: ReadoutSection, frames: Frames) -> ReadoutSpec:
    """The record of a network that is to be trained on these frames."""
    view = frames.views[0] if frames.views else None
    mean, spread = scales(frames)
    return replace(section.network(), view=view, mean=mean, spread=spread)


def scales(frames: Frames) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and spread of the network's targets."""
    spread = np.maximum(frames.seen.std(axis=0), _LEAST_SPREAD)
    return tuple(frames.seen.mean(axis=0).tolist()), tuple(spread.tolist())


class Batches:
    """Draws batches of short sequences of degraded frames; a batch is a function of its generator.

    Args:
        frames: what to draw from.
        section: sizes, shares, autoencoder and planner.
        spec: record of the network.
    """

    def __init__(self, frames: Frames, section: ReadoutSection, spec: ReadoutSpec) -> None:
        self.frames, self.section, self.spec = frames, section, spec
        self.targets = ((frames.seen - spec.mean) / np.array(spec.spread)).astype(np.float32)
        far = np.abs(self.targets).max(axis=1)
        self.rare = np.flatnonzero(far >= np.quantile(far, 0.9))
        self.first = np.searchsorted(frames.episode, frames.episode, "left")
        self.after = np.searchsorted(frames.episode, frames.episode, "right")
        self.made: list[tuple[dict[int, np.ndarray], float]] = []
        if section.vae is not None:
            decoded = through_autoencoder(
                frames.pictures, section.vae, section.vae_pictures, section.vae_noise, section.seed
            )
            self.made.append((decoded, section.vae_share))
        if section.planner is not None:
            self.made.append((planned_pictures(frames, section.planner, section.seed), section.planner.share))

    def __call__(self, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Pixels (B, F, 3, H, W) in [-1, 1], cameras (B, 12), normalised places (B, F, 3), and gripper states (B, F).

        F is the longest possible in half of the batches and any smaller number in the others, so that parts of plans
        are read as well as whole ones; B * F is about the section's batch size.
        """
        rng = np.random.default_rng(torch.randint(2**62, (), generator=generator).item())
        longest = int((self.after - self.first).max()) if self.spec.context else 1
        length = longest if rng.random() < 0.5 else int(rng.integers(1, longest + 1))
        rows = max(1, round(self.section.batch_size / length))
        middles = rng.integers(len(self.frames.gripper), size=rows)
        middles = np.where(rng.random(rows) < self.section.rare_share, rng.choice(self.rare, rows), middles)
        kinds = np.zeros(rows, np.int64)
        for kind, (made, share) in enumerate(self.made, start=1):
            taken = rng.random(rows) < share
            middles = np.where(taken, rng.choice(np.fromiter(made, dtype=np.int64), rows), middles)
            kinds[taken] = kind
        length = min(length, int((self.after - self.first)[middles].min()))
        begins = middles - rng.integers(0, length, rows)
        begins = np.clip(begins, self.first[middles], self.after[middles] - length)
        numbers = begins[:, None] + np.arange(length)
        places, pictures, views = self.targets[numbers].copy(), [], []
        for row, kind in enumerate(kinds.tolist()):
            made = self.made[kind - 1][0] if kind else {}
            shown = [made.get(number, self.frames.pictures[number]) for number in numbers[row].tolist()]
            shown = [degrade(one, shown[self._neighbour(place, length, rng)], rng) for place, one in enumerate(shown)]
            if self.spec.view is not None and self.section.shift_px and rng.random() < 0.5:
                # shifting the pictures shifts u and v alike, which is as good as more cameras
                moved = rng.uniform(-self.section.shift_px, self.section.shift_px, 2)
                shown = [shift(one, *moved) for one in shown]
                share = moved / (self.spec.width, self.spec.height)
                places[row, :, :2] += share / np.array(self.spec.spread)[:2]
            else:
                share = np.zeros(2)
            pictures.append(np.stack(shown))
            if self.spec.sees_camera:
                views.append(self.frames.views[self.frames.episode[numbers[row, 0]]].shifted(*share))
        pixels = torch.from_numpy(np.stack(pictures)).permute(0, 1, 4, 2, 3).float() / 127.5 - 1
        cameras = self.spec.camera_features(views) if views else torch.zeros(rows, 12)
        gripper = torch.from_numpy(self.frames.gripper[numbers].astype(np.float32))
        return pixels, cameras, torch.from_numpy(places), gripper

    @staticmethod
    def _neighbour(place: int, length: int, rng: np.random.Generator) -> int:
        """A frame up to two before or after."""
        return int(np.clip(place + rng.integers(-2, 3), 0, length - 1))


def readout_loss(
    place: torch.Tensor, scale: torch.Tensor, logit: torch.Tensor, places: torch.Tensor, gripper: torch.Tensor
) -> torch.Tensor:
    """Error of the places, likelihood of that error under the predicted scale, and likelihood of the gripper states.

    The scale's part has no gradient for the places: otherwise a network may excuse what it finds hard.

    Args:
        place: (..., 3), normalised.
        scale: (..., 3), logarithm of the expected absolute error.
        logit: (...) that the gripper is closed.
        places: (..., 3), the truth.
        gripper: (...) in [0, 1], the truth.
    """
    error = (place - places).abs()
    likelihood = scale + error.detach() / scale.exp()
    fit = functional.smooth_l1_loss(place, places, beta=0.1)
    return 2 * fit + 0.1 * likelihood.mean() + 0.5 * functional.binary_cross_entropy_with_logits(logit, gripper)

"""The training loop: steps, averaged weights, log, checkpoints, clean stop.

Everything random is a function of (seed, step, process): which examples, which noise. A resumed run therefore
goes on exactly where the stopped one was, without any generator state to save.
"""

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from tqdm import tqdm

from .checkpoints import (
    flatten_optimizers,
    latest_checkpoint,
    load_checkpoint,
    restore_optimizers,
    save_checkpoint,
)
from .config import RunSection
from .errors import TrainingError
from .optim import make_optimizers, rate_factor, set_rates

LossOf = Callable[[torch.nn.Module, int, torch.Generator], torch.Tensor]
"""(model, index of the batch, CPU generator) → scalar loss."""


def step_generator(seed: int, index: int, process: int = 0) -> torch.Generator:
    """The CPU generator of one batch, a function of its arguments only."""
    return torch.Generator().manual_seed((seed * 1_000_003 + index) * 4_093 + process)


def make_accelerator(section: RunSection, device: str = "auto") -> Accelerator:
    """Accelerate's view of this process; seeds torch for the weights made from here on."""
    if section.threads:
        torch.set_num_threads(section.threads)
    accelerator = Accelerator(
        mixed_precision=section.mixed_precision, cpu=device == "cpu" or not torch.cuda.is_available()
    )
    set_seed(section.seed)
    return accelerator


class Loop:
    """Runs a training to its end, or to a stop from which it can go on.

    Args:
        section: how long, how often saved.
        model: the module; parameters that require gradients are trained and saved.
        loss_of: the loss of one batch.
        accelerator: from `make_accelerator`.
    """

    def __init__(self, section: RunSection, model: torch.nn.Module, loss_of: LossOf, accelerator: Accelerator) -> None:
        self.section, self.loss_of, self.accelerator = section, loss_of, accelerator
        self.run_folder = Path(section.out)
        self.trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        if not self.trained:
            raise TrainingError("nothing to train: no parameter requires a gradient")
        self.optimizers = make_optimizers(self.trained.items(), section.optimizer)
        self.model = accelerator.prepare(model)
        self.averaged = {n: p.detach().float().clone() for n, p in self.trained.items()} if section.ema_decay else {}
        self.step, self.seconds = 0, 0.0
        self._stop_asked = False

    def resume(self) -> None:
        """Go on from the newest checkpoint of the run folder, if there is one."""
        path = latest_checkpoint(self.run_folder)
        if path is None:
            return
        parts, record = load_checkpoint(path)
        self._copy(parts["weights"], self.trained, path)
        if self.averaged:
            self._copy(parts.get("averaged", parts["weights"]), self.averaged, path)
        restore_optimizers(self.optimizers, parts["optimizer"])
        self.step, self.seconds = record["step"], record["seconds"]

    @staticmethod
    def _copy(source: dict, target: dict, path: Path) -> None:
        if source.keys() != target.keys() or any(source[n].shape != target[n].shape for n in target):
            raise TrainingError(f"checkpoint {path} belongs to another model or adapter than this configuration's")
        with torch.no_grad():
            for name, tensor in target.items():
                tensor.copy_(source[name])

    def run(self) -> bool:
        """Train until `max_steps` (True), or until a stop is asked for or `max_hours` are over (False), and save."""
        self._trim_log()
        deadline = time.monotonic() + 3600 * self.section.max_hours if self.section.max_hours else None
        previous = {s: signal.signal(s, self._ask_stop) for s in (signal.SIGINT, signal.SIGTERM)}
        bar = tqdm(
            total=self.section.max_steps, initial=self.step, disable=not self.accelerator.is_main_process, miniters=1
        )
        try:
            while self.step < self.section.max_steps and not self._stop_asked:
                if deadline and time.monotonic() > deadline:
                    break
                bar.set_postfix_str(f"loss {self._one_step():.4f}", refresh=False)
                bar.update()
                if self.step % self.section.save_every == 0:
                    self.save()
        finally:
            bar.close()
            for number, handler in previous.items():
                signal.signal(number, handler)
        if self.step % self.section.save_every:
            self.save()
        return self.step >= self.section.max_steps

    def _ask_stop(self, *_: object) -> None:
        if self._stop_asked:
            raise KeyboardInterrupt
        self._stop_asked = True

    def _one_step(self) -> float:
        start = time.perf_counter()
        factor = rate_factor(self.step, self.section.max_steps, self.section.optimizer)
        set_rates(self.optimizers, factor)
        count, total = self.section.gradient_accumulation, 0.0
        for part in range(count):
            index = self.step * count + part
            generator = step_generator(self.section.seed, index, self.accelerator.process_index)
            loss = self.loss_of(self.model, index, generator) / count
            self.accelerator.backward(loss)
            total += loss.detach().item()
        if not torch.isfinite(torch.tensor(total)):
            raise TrainingError(f"the loss became {total} at step {self.step}: lower the learning rate")
        norm = torch.nn.utils.clip_grad_norm_(self.trained.values(), self.section.optimizer.max_grad_norm)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self._average()
        self.step += 1
        self.seconds += time.perf_counter() - start
        if self.step % self.section.log_every == 0:
            self._log(
                {"step": self.step, "loss": total, "grad_norm": norm.item(), "rate": factor, "seconds": self.seconds}
            )
        return total

    def _average(self) -> None:
        if not self.averaged:
            return
        # a short run would otherwise be averaged with its random start
        decay = min(self.section.ema_decay, (1 + self.step) / (10 + self.step))
        for name, average in self.averaged.items():
            average.lerp_(self.trained[name].detach().float(), 1 - decay)

    def save(self) -> None:
        """Write a checkpoint."""
        if not self.accelerator.is_main_process:
            return
        parts = {"weights": self.trained, "optimizer": flatten_optimizers(self.optimizers)}
        if self.averaged:
            parts["averaged"] = self.averaged
        save_checkpoint(self.run_folder, self.step, parts, {"seconds": self.seconds}, self.section.keep)

    @property
    def _log_file(self) -> Path:
        return self.run_folder / "log.jsonl"

    def _trim_log(self) -> None:
        """Drop lines of steps that a killed run made after its last checkpoint."""
        self.run_folder.mkdir(parents=True, exist_ok=True)
        if self._log_file.exists():
            lines = [line for line in self._log_file.read_text().splitlines() if line.endswith("}")]
            kept = [line for line in lines if json.loads(line)["step"] <= self.step]
            self._log_file.write_text("".join(line + "\n" for line in kept))

    def _log(self, record: dict) -> None:
        if self.accelerator.is_main_process:
            with self._log_file.open("a") as file:
                file.write(
                    json.dumps({k: round(v, 6) if isinstance(v, float) else v for k, v in record.items()}) + "\n"
                )

    def use_averaged(self) -> None:
        """Put the averaged weights (if the run has them) into the model."""
        if self.averaged:
            with torch.no_grad():
                for name, parameter in self.trained.items():
                    parameter.copy_(self.averaged[name])

"""The training loop: steps, EMA weights, log, checkpoints, clean stop.

Everything random (examples, noise) is a function of (seed, step, place in the batch). A resumed run therefore
continues exactly where the stopped one was, without any generator state to save.
"""

import math
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from statistics import fmean

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import set_seed
from tqdm import tqdm

from runtime.writing import writing

from ..errors import TrainingError, WritingError
from ..sections.run import RunSection
from .checkpoints import (
    clean_up,
    flatten_optimizers,
    latest_checkpoint,
    load_checkpoint,
    restore_optimizers,
    save_checkpoint,
)
from .optim import make_optimizers, rate_factor, set_rates
from .parallel import agree, common, distribute, like, whole
from .precision import expect_mixed_norms, resolved
from .randomness import step_generator
from .record import RUN, check_record
from .runlog import RunLog

LossOf = Callable[[torch.nn.Module, int, torch.Generator], torch.Tensor]
"""(model, index of the batch, CPU generator) -> scalar loss."""
Validate = Callable[["Loop"], dict[str, float]]
"""(loop) -> figures for the log; called before the first step and every `validate_every` steps."""


def make_accelerator(section: RunSection, device: str = "auto") -> Accelerator:
    """Accelerate's view of this process; also seeds torch for the weights that are created from here on.

    Raises:
        TrainingError: the device cannot compute in that precision.
    """
    if section.threads:
        torch.set_num_threads(section.threads)
    on_cpu = device == "cpu" or not torch.cuda.is_available()
    kind = resolved(section.mixed_precision, on_cpu)
    torch.set_float32_matmul_precision(section.matmul_precision)
    expect_mixed_norms()
    if AcceleratorState._shared_state and AcceleratorState().mixed_precision != kind:
        # accelerate allows one precision per process, but a process may train several things in turn
        AcceleratorState._reset_state()
    accelerator = Accelerator(mixed_precision=kind, cpu=on_cpu)
    set_seed(section.seed)
    return accelerator


class Loop:
    """Runs a training to its end, or to a stop from which it can resume.

    Args:
        section: how long to train, and how often to save.
        model: the module; parameters that require gradients are trained and saved.
        loss_of: the loss of one batch.
        accelerator: from `make_accelerator`.
        validate: called before the first step and every `validate_every` steps.
        validate_every: steps between calls; 0: never.
        shard: shard the weights over the processes instead of copying them.
        record: what determines the weights (`make_record`), kept in each checkpoint; None: nothing is compared.
    """

    def __init__(
        self,
        section: RunSection,
        model: torch.nn.Module,
        loss_of: LossOf,
        accelerator: Accelerator,
        validate: Validate | None = None,
        validate_every: int = 0,
        shard: bool = False,
        record: dict | None = None,
    ) -> None:
        self.section, self.loss_of, self.accelerator = section, loss_of, accelerator
        self.validate, self.validate_every = validate, validate_every
        self.run_folder, self.record = Path(section.out), record
        if not any(p.requires_grad for p in model.parameters()):
            raise TrainingError("nothing to train: no parameter requires a gradient")
        self.model = distribute(model, accelerator, shard)
        plain = accelerator.unwrap_model(self.model)
        self.trained = {name: p for name, p in plain.named_parameters() if p.requires_grad}
        self.optimizers = make_optimizers(self.trained.items(), section.optimizer)
        self.averaged = {n: p.detach().float().clone() for n, p in self.trained.items()} if section.ema_decay else {}
        self.step, self.seconds, self._saved = 0, 0.0, 0
        self.losses: deque[float] = deque(maxlen=section.log_every)  # one batch's alone scatters too much to be read
        self.log: RunLog | None = None
        self._stop_asked = False

    def resume(self) -> None:
        """Continue from the newest checkpoint of the run folder, if there is one.

        Raises:
            TrainingError: the checkpoint belongs to another model, or was trained under other settings.
        """
        if self.accelerator.is_main_process:
            clean_up(self.run_folder)
        self.accelerator.wait_for_everyone()
        path = latest_checkpoint(self.run_folder)
        if path is None:
            return
        parts, record = load_checkpoint(path)
        if self.record is not None:
            self.record = check_record(record.get(RUN), self.record, path, self.section.changes, record["step"])
        self._copy(parts["weights"], self.trained, path)
        if self.averaged:
            self._copy(parts.get("averaged", parts["weights"]), self.averaged, path)
        try:
            restore_optimizers(self.optimizers, parts["optimizer"], record.get("optimizers", ()))
            if self.accelerator.scaler is not None and record.get("scaler"):
                self.accelerator.scaler.load_state_dict(record["scaler"])
        except (ValueError, TypeError, KeyError, IndexError, RuntimeError) as error:
            raise TrainingError(
                f"checkpoint {path} has a state of the optimizer that is damaged or of another one: {error}"
            ) from error
        self.step, self.seconds = record["step"], record.get("seconds", 0.0)
        self.losses.extend(record.get("losses", ()))
        self._saved = self.step

    @staticmethod
    def _copy(source: dict, target: dict, path: Path) -> None:
        if source.keys() != target.keys() or any(source[n].shape != target[n].shape for n in target):
            raise TrainingError(f"checkpoint {path} belongs to another model or adapter than this configuration's")
        with torch.no_grad():
            for name, tensor in target.items():
                tensor.copy_(like(source[name], tensor))

    def run(self) -> bool:
        """Train to the end (True), or until a stop is requested or `max_hours` are over (False), and save.

        The end is at `max_steps`, or when `run_hours` of training are over, if that is sooner.

        Raises:
            TrainingError: loss or gradient are no longer finite, or a checkpoint, the log or a picture cannot be
                written; in the last two cases the steps so far are saved first.
        """
        if self.accelerator.is_main_process:
            with writing(self.run_folder, WritingError):
                self.run_folder.mkdir(parents=True, exist_ok=True)
            self.log = RunLog(self.run_folder, self.step, self.section.tensorboard)
        deadline = time.monotonic() + 3600 * self.section.max_hours if self.section.max_hours else None
        bar = tqdm(
            total=self.section.max_steps, initial=self.step, disable=not self.accelerator.is_main_process, miniters=1
        )
        with self._signals(), bar, self._keeping_steps():
            self._validate_if(not self.finished)
            while not self.finished and not self._must_stop(deadline):
                self.one_step()
                bar.set_postfix_str(f"loss {fmean(self.losses):.4f}", refresh=False)
                bar.update()
                if self.step % self.section.save_every == 0:
                    self.save()
                self._validate_if(self.validate_every and self.step % self.validate_every == 0)
        if self.step != self._saved:
            self.save()
        if self.log is not None:
            self.log.close()
        return self.finished

    @property
    def hours_left(self) -> float | None:
        """Hours of training left in a run with a time limit, None for others."""
        return None if self.section.run_hours is None else self.section.run_hours - self.seconds / 3600

    @property
    def finished(self) -> bool:
        """Whether the run is at its end."""
        return self.step >= self.section.max_steps or (self.hours_left is not None and self.hours_left <= 0)

    @contextmanager
    def _keeping_steps(self) -> Iterator[None]:
        """Save the finished steps if the log or a picture cannot be written: a checkpoint may still be possible.

        Not with several processes: only the first writes those, but a checkpoint needs all of them.
        """
        try:
            yield
        except WritingError as error:
            if self.step == self._saved or self.accelerator.num_processes > 1:
                raise
            try:
                self.save()
            except WritingError:
                raise error from None
            raise WritingError(f"{error}; the steps so far are in checkpoint {self.step}") from error

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """The first Ctrl-C (or SIGTERM) lets the step end, the second stops at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        previous = {s: signal.signal(s, self._ask_stop) for s in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _ask_stop(self, *_: object) -> None:
        if self._stop_asked:
            raise KeyboardInterrupt
        self._stop_asked = True

    def _must_stop(self, deadline: float | None) -> bool:
        return agree(self._stop_asked or (deadline is not None and time.monotonic() > deadline), self.accelerator)

    def _validate_if(self, due: bool) -> None:
        if due and self.validate is not None and self.validate_every:
            figures = self.validate(self)
            if self.log is not None:
                self.log.write({"step": self.step, **figures})

    def one_step(self) -> float:
        """Do one step: gradients, update, EMA, log; returns the loss of its batch.

        A line of the log has the mean loss of the steps since the last line.

        Raises:
            TrainingError: loss or gradient are no longer finite.
        """
        start = time.perf_counter()
        factor = rate_factor(self.step, self.section.max_steps, self.section.optimizer, self.hours_left)
        set_rates(self.optimizers, factor)
        total = self._gradients()
        if not math.isfinite(total):
            raise TrainingError(f"the loss became {total} at step {self.step}: lower the learning rate")
        norm = self._update()
        self._average()
        self.step += 1
        self.seconds += self._taken(time.perf_counter() - start)
        self.losses.append(total)
        if self.log is not None and self.step % self.section.log_every == 0:
            figures = {"loss": fmean(self.losses), "grad_norm": norm, "rate": factor, "seconds": self.seconds}
            self.log.write({"step": self.step, **figures})
        return total

    def _taken(self, seconds: float) -> float:
        """Duration of a step [s]; the same for all processes if the run has a time limit."""
        return seconds if self.section.run_hours is None else common(seconds, self.accelerator)

    def _gradients(self) -> float:
        """Accumulate the gradients of one step; returns the mean loss of this process."""
        count, total = self.section.gradient_accumulation, 0.0
        for part in range(count):
            index = self.step * count + part
            generator = step_generator(self.section.seed, index)
            last = part == count - 1
            with nullcontext() if last else self.accelerator.no_sync(self.model), self.accelerator.autocast():
                loss = self.loss_of(self.model, index, generator) / count
            with nullcontext() if last else self.accelerator.no_sync(self.model):
                self.accelerator.backward(loss)
            total += loss.detach().item()
        return total

    def _update(self) -> float:
        """Clip the gradients and let the optimizers step; returns the gradients' norm."""
        scaler = self.accelerator.scaler
        if scaler is not None:
            for optimizer in self.optimizers:
                scaler.unscale_(optimizer)
        norm = whole(torch.nn.utils.clip_grad_norm_(self.trained.values(), self.section.optimizer.max_grad_norm)).item()
        if scaler is None and not math.isfinite(norm):
            raise TrainingError(f"the gradient became {norm} at step {self.step}: lower the learning rate")
        for optimizer in self.optimizers:
            optimizer.step() if scaler is None else scaler.step(optimizer)
            optimizer.zero_grad(set_to_none=True)
        if scaler is not None:
            scaler.update()
        return norm

    def _average(self) -> None:
        if not self.averaged:
            return
        # otherwise a short run would be averaged with its random initial weights
        decay = min(self.section.ema_decay, (1 + self.step) / (10 + self.step))
        for name, average in self.averaged.items():
            average.lerp_(self.trained[name].detach().float(), 1 - decay)

    def save(self) -> None:
        """Write a checkpoint; every process must call this at the same step."""
        self._saved = self.step  # even if saving fails below
        state, numbers = flatten_optimizers(self.optimizers)
        parts = {"weights": {n: whole(p.detach()) for n, p in self.trained.items()}, "optimizer": state}
        if self.averaged:
            parts["averaged"] = {name: whole(tensor) for name, tensor in self.averaged.items()}
        record = {"seconds": self.seconds, "losses": list(self.losses), "optimizers": numbers, RUN: self.record}
        if self.accelerator.scaler is not None:
            record["scaler"] = self.accelerator.scaler.state_dict()
        if self.accelerator.is_main_process:
            save_checkpoint(self.run_folder, self.step, parts, record, self.section.keep)
        self.accelerator.wait_for_everyone()

    def use_averaged(self) -> None:
        """Put the EMA weights (if the run has them) into the model."""
        if self.averaged:
            with torch.no_grad():
                for name, parameter in self.trained.items():
                    parameter.copy_(self.averaged[name])

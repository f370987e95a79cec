"""Bookkeeping of training epochs: history, kept models, checkpoints, progress."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nfbench.blocks.features import Features
from nfbench.blocks.method import Batch, Method
from nfbench.blocks.settings import EpochSettings
from nfbench.core.errors import NfbenchError
from nfbench.core.progress import progress
from nfbench.training.checkpoint import CheckpointPace, SideFolder
from nfbench.training.data import TrainingData

__all__ = ["Course", "Diverged", "OnKept", "TrainingResult", "calibrated_state", "kept_epochs", "prepare"]

OnKept = Callable[[Method, int, float | None], None]
"""Callback for each kept epoch: the model in evaluation mode, the epoch, its held-out log-likelihood."""


class Diverged(NfbenchError):
    """Raised when the loss is not finite or has exploded."""


@dataclass
class TrainingResult:
    """Result of a training.

    Attributes:
        history: one row per epoch: ``epoch``, ``loss`` (for flows in nats per dimension), ``val_log_likelihood`` (nats
            per dimension, None without held-out images or likelihood), ``lr``, ``seconds``.
        kept: states of the model by epoch, always including the last one, which shares memory with a model on the CPU.
        seconds: time spent in ``prepare`` and in all epochs, including time before a kill.
    """

    history: list[dict[str, float | None]]
    kept: dict[int, dict[str, Tensor]]
    seconds: float


def kept_epochs(epochs: int, checkpoints: int) -> list[int]:
    """Epochs at which models are kept: ``checkpoints`` of them, evenly spaced, including the last.

    >>> kept_epochs(20, 4)
    [5, 10, 15, 20]
    """
    count = max(1, min(checkpoints, epochs))
    return sorted({round(epochs * (number + 1) / count) for number in range(count)})


class Course:
    """A training epoch by epoch, from the first epoch or from the last checkpoint.

    Args:
        method: model on its device.
        data: features.
        settings: number of epochs and of kept models, batch size.
        side: folder of the checkpoints.
        label: name of the cell in messages and in the progress bar.
        checkpoint_seconds: minimum time between two checkpoints; see ``CheckpointPace``.
        on_kept: called whenever a model is kept.

    Attributes:
        first: epoch to begin with.
        result: results of the training so far.
    """

    def __init__(
        self,
        method: Method,
        data: TrainingData,
        settings: EpochSettings,
        side: SideFolder,
        label: str,
        checkpoint_seconds: float,
        on_kept: OnKept | None,
    ) -> None:
        self.method, self.data, self.settings, self.side, self.label = method, data, settings, side, label
        self.on_kept = on_kept
        self.first, self.result = 1, TrainingResult([], {}, 0.0)
        self._wanted = set(kept_epochs(settings.epochs, settings.checkpoints))
        self._seconds_between, self._started = checkpoint_seconds, 0.0

    def begin(self) -> dict[str, Any] | None:
        """Read the last checkpoint; without one, prepare the method."""
        state = self.side.load()
        if state is None:
            self.result = prepare(self.method, self.data)
        else:
            self.result = TrainingResult(state["history"], state["kept"], state["seconds"])
            self.first = state["epoch"] + 1
        return state

    def epochs(self) -> Iterator[int]:
        """Yield the remaining epochs; the caller must call ``end`` for each."""
        size = 3 * sum(value.nbytes for value in self.method.state_dict().values())
        self._pace = CheckpointPace(self._seconds_between, size)
        numbers = progress(
            range(self.first, self.settings.epochs + 1),
            total=self.settings.epochs,
            label=self.label,
            done=self.first - 1,
            details=lambda: _details(self.result.history),
        )
        for epoch in numbers:
            self._started = time.monotonic()
            yield epoch

    def end(self, epoch: int, loss: float, lr: float, state: Callable[[], Mapping[str, Any]] | None) -> None:
        """Record an epoch, keep its model if selected, and write a checkpoint if due.

        Args:
            epoch: number of the epoch.
            loss: mean over the epoch's steps, in the printed unit.
            lr: learning rate of the epoch's last step.
            state: returns further state needed to resume; None writes no checkpoints.
        """
        result, last = self.result, epoch == self.settings.epochs
        val = _val_log_likelihood(self.method, self.data, self.settings)
        seconds = time.monotonic() - self._started
        result.seconds += seconds
        result.history.append(
            {"epoch": epoch, "loss": loss, "val_log_likelihood": val, "lr": lr, "seconds": round(seconds, 3)}
        )
        if epoch in self._wanted:
            result.kept[epoch] = calibrated_state(self.method, self.data, copied=not last)
            if self.on_kept:
                self.on_kept(self.method, epoch, val)
        if state and not last and self._pace.is_due():
            with self._pace.writing():
                of_all = {"epoch": epoch, "history": result.history, "kept": result.kept, "seconds": result.seconds}
                self.side.save({**state(), **of_all})

    def diverged(self, where: str, loss: float, hint: str) -> Diverged:
        """Error for a diverged loss."""
        path = self.side.path
        kept = f"the last good checkpoint is {path}" if path.exists() else "no checkpoint was written"
        return Diverged(f"{self.label}: the loss is {loss:.3g} in {where}; {kept}; {hint}")

    def run_alone(self) -> TrainingResult:
        """Let the method run its own epochs."""
        state = self.begin()
        epochs = self.epochs()
        next(epochs, None)
        self.method.train().train_epochs(_Alone(self, epochs, state and state["own"]))
        if len(self.result.history) != self.settings.epochs:
            raise NfbenchError(
                f"{self.label}: '{self.method.title}' ended after {len(self.result.history)} of "
                f"{self.settings.epochs} epochs"
            )
        return self.result


class _Alone:
    """See ``nfbench.blocks.passes.OwnTraining``."""

    def __init__(self, course: Course, epochs: Iterator[int], state: Mapping[str, Any] | None) -> None:
        self._course, self._epochs = course, epochs
        self.first, self.state = course.first, state
        self.n_batches = course.data.n_batches(course.settings.batch_size, False)

    def batches(self, epoch: int) -> Iterator[Batch]:
        return self._course.data.batches(epoch, self._course.settings.batch_size, False)

    def held_out(self) -> Iterable[Features[Tensor]]:
        data = self._course.data
        return data.ordered(data.rows(data.val), self._course.settings.batch_size) if len(data.val) else ()

    def generator(self, *names: object) -> torch.Generator:
        return self._course.data.generator(*names)

    def done(self, epoch: int, loss: float, lr: float, state: Callable[[], Mapping[str, Any]] | None) -> None:
        if not math.isfinite(loss):
            raise self._course.diverged(f"epoch {epoch}", loss, "other settings of the model may help")
        self._course.end(epoch, loss, lr, None if state is None else lambda: {"own": state()})
        next(self._epochs, None)


def prepare(method: Method, data: TrainingData) -> TrainingResult:
    """Prepare and calibrate the method, before the first epoch or instead of epochs."""
    method.train()
    started = time.monotonic()
    method.prepare(data.passes)
    return TrainingResult([], {}, time.monotonic() - started)


def calibrated_state(method: Method, data: TrainingData, *, copied: bool) -> dict[str, Tensor]:
    """The state on the CPU; if not copied, it shares memory with a model on the CPU."""
    method.eval()
    method.calibrate(data.passes)
    state = {name: value.detach().cpu() for name, value in method.state_dict().items()}
    return {name: value.clone() for name, value in state.items()} if copied else state


@torch.inference_mode()
def _val_log_likelihood(method: Method, data: TrainingData, settings: EpochSettings) -> float | None:
    if not len(data.val):
        return None
    method.eval()
    batches = data.ordered(data.rows(data.val), settings.batch_size)
    found = [values for values in map(method.log_likelihood, batches) if values is not None]
    if any(values.ndim != 1 for values in found):
        raise NfbenchError(f"method '{method.title}': 'log_likelihood' must be (B,), got {tuple(found[0].shape)}")
    return float(torch.cat(found).double().mean()) if found else None


def _details(history: list[dict[str, float | None]]) -> str:
    if not history:
        return ""
    last = history[-1]
    val = last["val_log_likelihood"]
    return f"loss {last['loss']:.3f}" + ("" if val is None else f", held-out log-likelihood {val:.3f}")

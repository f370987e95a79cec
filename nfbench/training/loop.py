"""The training loop: a fixed number of epochs, checkpoints, and a stop when the loss is lost."""

import math
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nfbench.errors import NfbenchError
from nfbench.methods.base import Method, MethodSettings
from nfbench.progress import progress
from nfbench.training.checkpoint import SideFolder
from nfbench.training.data import TrainingData
from nfbench.training.optimizer import Adam

__all__ = ["TrainingResult", "kept_epochs", "learning_rate", "train"]

EXPLODED = 1e3
"""Loss in nats per dimension beyond which a training is lost; a working flow stays below 10."""


@dataclass
class TrainingResult:
    """What a training leaves.

    Attributes:
        history: one row per epoch: ``epoch``, ``loss`` (nats per dimension), ``val_log_likelihood`` (nats per
            dimension, None without held-out images), ``lr``, ``seconds``.
        kept: states of the model by epoch; the last epoch is always among them.
        seconds: time spent in all epochs, also before a kill.
    """

    history: list[dict[str, float | None]]
    kept: dict[int, dict[str, Tensor]]
    seconds: float


def kept_epochs(epochs: int, checkpoints: int) -> list[int]:
    """Epochs whose models are kept: ``checkpoints`` of them, evenly spaced, the last one being the last epoch.

    >>> kept_epochs(20, 4)
    [5, 10, 15, 20]
    """
    count = max(1, min(checkpoints, epochs))
    return sorted({round(epochs * (number + 1) / count) for number in range(count)})


def learning_rate(settings: MethodSettings, progressed: float) -> float:
    """Learning rate after a share ``progressed`` in [0, 1) of all steps."""
    if settings.schedule == "cosine":
        return settings.lr * 0.5 * (1 + math.cos(math.pi * progressed))
    return settings.lr


def train(
    method: Method,
    data: TrainingData,
    settings: MethodSettings,
    side: SideFolder,
    label: str,
    checkpoint_seconds: float = 20.0,
) -> TrainingResult:
    """Trains ``method`` in place.

    Args:
        method: model on its device.
        data: features.
        settings: epochs, batch size, optimizer.
        side: where checkpoints go; an unfinished training there is resumed, bit-equal on CPU.
        label: names the cell in messages and in the progress bar.
        checkpoint_seconds: at least so long between two checkpoints.

    Raises:
        NfbenchError: the loss is not finite or has exploded; the last good checkpoint stays in the side folder.
    """
    parameters = [parameter for parameter in method.parameters() if parameter.requires_grad]
    optimizer = Adam(parameters, settings.lr, settings.weight_decay) if parameters else None
    result, first = _resume(method, optimizer, side, data.device)
    if first == 1:
        method.train()
        method.prepare(lambda: data.ordered(data.train, settings.batch_size))
        if settings.epochs == 0:
            result.kept[0] = _copy_state(method)
    wanted = set(kept_epochs(settings.epochs, settings.checkpoints))
    loss_of = torch.compile(method.loss) if settings.compile else method.loss
    last_write = time.monotonic()
    epochs = progress(
        range(first, settings.epochs + 1),
        total=settings.epochs,
        label=label,
        done=first - 1,
        details=lambda: _details(result.history),
    )
    for epoch in epochs:
        started = time.monotonic()
        loss, lr = _train_epoch(method, loss_of, optimizer, data, settings, epoch, label, side)
        val = _val_log_likelihood(method, data, settings)
        seconds = time.monotonic() - started
        result.seconds += seconds
        result.history.append(
            {"epoch": epoch, "loss": loss, "val_log_likelihood": val, "lr": lr, "seconds": round(seconds, 3)}
        )
        if epoch in wanted:
            result.kept[epoch] = _copy_state(method)
        if epoch < settings.epochs and time.monotonic() - last_write >= checkpoint_seconds:
            _write_checkpoint(method, optimizer, result, epoch, side)
            last_write = time.monotonic()
    return result


def _train_epoch(
    method: Method,
    loss_of: Any,
    optimizer: Adam,
    data: TrainingData,
    settings: MethodSettings,
    epoch: int,
    label: str,
    side: SideFolder,
) -> tuple[float, float]:
    """One pass over the training images; returns the mean loss in nats per dimension and the last learning rate."""
    method.train()
    steps = data.n_batches(settings.batch_size, settings.drop_last)
    total = torch.zeros((), dtype=torch.float64)
    lr = settings.lr
    for step, batch in enumerate(data.batches(epoch, settings.batch_size, settings.drop_last)):
        lr = optimizer.lr = learning_rate(settings, (epoch - 1 + step / steps) / settings.epochs)
        with torch.autocast(data.device.type, torch.bfloat16, enabled=settings.precision == "bf16"):
            loss = loss_of(batch)
        value = loss.detach().double().cpu() / method.dimensions
        if not value.abs() < EXPLODED:  # also when it is NaN
            kept = f"the last good checkpoint is {side.path}" if side.path.exists() else "no checkpoint was written yet"
            raise NfbenchError(
                f"{label}: the loss is {float(value):.3g} nats per dimension in epoch {epoch}, step {step + 1}; "
                f"{kept}; try a lower 'lr' (now {settings.lr:g}) or set 'gradient_clip'"
            )
        optimizer.zero_grad()
        loss.backward()
        if settings.gradient_clip is not None:
            # the loss is the sum over all dimensions, the limit is stated per dimension
            torch.nn.utils.clip_grad_norm_(method.parameters(), settings.gradient_clip * method.dimensions)
        optimizer.step()
        total += value
    return float(total) / steps, lr


@torch.inference_mode()
def _val_log_likelihood(method: Method, data: TrainingData, settings: MethodSettings) -> float | None:
    if not len(data.val):
        return None
    method.eval()
    batches = data.ordered(data.val, settings.batch_size)
    return float(torch.cat([method.log_likelihood(batch) for batch in batches]).double().mean())


def _resume(
    method: Method, optimizer: Adam | None, side: SideFolder, device: torch.device
) -> tuple[TrainingResult, int]:
    state = side.load(device)
    if state is None:
        return TrainingResult([], {}, 0.0), 1
    method.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return TrainingResult(state["history"], state["kept"], state["seconds"]), state["epoch"] + 1


def _write_checkpoint(method: Method, optimizer: Adam, result: TrainingResult, epoch: int, side: SideFolder) -> None:
    state = {
        "model": method.state_dict(),
        "optimizer": optimizer.state_dict(),
        "epoch": epoch,
        "history": result.history,
        "kept": result.kept,
        "seconds": result.seconds,
    }
    side.save(state)


def _copy_state(method: Method) -> dict[str, Tensor]:
    return {name: value.detach().cpu().clone() for name, value in method.state_dict().items()}


def _details(history: list[dict[str, float | None]]) -> str:
    if not history:
        return ""
    last = history[-1]
    val = last["val_log_likelihood"]
    return f"loss {last['loss']:.3f}" + ("" if val is None else f", held-out log-likelihood {val:.3f}")

"""The training loop: a fixed number of epochs, checkpoints, and a stop when the loss diverges."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from nfbench.blocks.method import Method, load_method
from nfbench.blocks.settings import EpochSettings, MethodSettings, TrainedSettings
from nfbench.core.device import tf32
from nfbench.core.errors import NfbenchError
from nfbench.training.checkpoint import SideFolder
from nfbench.training.course import (
    Course,
    Diverged,
    OnKept,
    TrainingResult,
    calibrated_state,
    kept_epochs,
    prepare,
)
from nfbench.training.data import TrainingData
from nfbench.training.optimizer import Adam, OwnOptimizer

__all__ = ["Diverged", "OnKept", "TrainingResult", "kept_epochs", "learning_rate", "train"]

EXPLODED = 1e3
"""Printed loss above which a training counts as diverged; a working flow stays below 10 nats per dimension."""

LOOK_EVERY = 64
"""Number of steps between two checks of the losses; the end of an epoch has one more check."""

_WARMUP_META_EPOCHS = 2
_WARMUP_SHARE = 0.12
_WARMUP_START = 0.1
_FINAL_SHARE = 1e-3
_ROUNDING = 1e-9


def learning_rate(settings: TrainedSettings, progressed: float) -> float:
    """Learning rate after a share ``progressed`` in [0, 1) of all steps.

    ``warmup_cosine`` is the schedule of CFLOW-AD and its descendants: a cosine from ``lr`` to ``lr / 1000`` with one
    value per meta-epoch ``e`` of ``E``; in the first two meta-epochs, the rate instead rises linearly, step by step,
    from ``lr / 10`` to the cosine's value at ``2``. ``warmup_step`` is the schedule of MSFlow: the rate rises linearly,
    epoch by epoch, from ``lr / 10`` to ``lr`` in the first 12 % of the epochs; then ``step`` applies.
    """

    def cosine(share: float) -> float:
        return 0.5 * (1 + math.cos(math.pi * share))

    if settings.schedule == "constant":
        return settings.lr
    if settings.schedule == "cosine":
        return settings.lr * cosine(progressed)
    if settings.schedule == "warmup_step":
        epoch, warmed_up = int(progressed * settings.epochs + _ROUNDING), round(_WARMUP_SHARE * settings.epochs)
        if epoch < warmed_up:
            return settings.lr * (_WARMUP_START + (1 - _WARMUP_START) * epoch / warmed_up)
        progressed = epoch / settings.epochs
    if settings.schedule in ("step", "warmup_step"):
        passed = sum(progressed + _ROUNDING >= milestone for milestone in settings.milestones)
        return settings.lr * settings.gamma**passed
    final, total = _FINAL_SHARE * settings.lr, settings.meta_epochs

    def of_meta_epoch(number: int) -> float:
        return final + (settings.lr - final) * cosine(number / total)

    meta_epoch = settings.meta_epoch(progressed)
    if meta_epoch >= _WARMUP_META_EPOCHS:
        return of_meta_epoch(meta_epoch)
    start = _WARMUP_START * settings.lr
    warmed = progressed * total / _WARMUP_META_EPOCHS
    return start + warmed * (of_meta_epoch(_WARMUP_META_EPOCHS) - start)


def train(
    method: Method,
    data: TrainingData,
    settings: MethodSettings,
    side: SideFolder,
    label: str,
    checkpoint_seconds: float = 20.0,
    on_kept: OnKept | None = None,
) -> TrainingResult:
    """Train ``method`` in place.

    Args:
        method: model on its device.
        data: features.
        settings: settings of the method; a method without epochs is only prepared.
        side: folder of the checkpoints; an unfinished training there is resumed, bit-equal on a CPU.
        label: name of the cell in messages and in the progress bar.
        checkpoint_seconds: minimum time between two checkpoints; see ``CheckpointPace``.
        on_kept: called whenever a model is kept; an exception ends the training.

    Raises:
        Diverged: the loss is not finite or has exploded; the last good checkpoint stays in the side folder.
        NfbenchError: an epoch had no loss to minimize, or there is no module to compile.
    """
    if not isinstance(settings, EpochSettings) or settings.epochs == 0:
        result = prepare(method, data)
        result.kept[0] = calibrated_state(method, data, copied=False)
        if on_kept:
            on_kept(method, 0, None)
        return result
    if not isinstance(settings, TrainedSettings):
        return Course(method, data, settings, side, label, checkpoint_seconds, on_kept).run_alone()
    optimizer = _optimizer(method, settings)
    course = Course(method, data, settings, side, label, checkpoint_seconds, on_kept)
    if state := course.begin():
        load_method(method, state["model"])
        optimizer.load_state_dict(state["optimizer"])
    if settings.compile:
        _compile(method)
    for epoch in course.epochs():
        loss, lr = _train_epoch(method, optimizer, data, settings, epoch, course)
        course.end(epoch, loss, lr, lambda: {"model": method.state_dict(), "optimizer": optimizer.state_dict()})
    optimizer.close()
    return course.result


def _optimizer(method: Method, settings: TrainedSettings) -> Adam | OwnOptimizer:
    own = method.own_optimizer()
    return OwnOptimizer(own) if own else Adam(method.optimizer_groups(), settings.lr, settings.betas, settings.eps)


def _compile(method: Method) -> None:
    """Compile the trained modules, which every loss calls; names in the state dict stay the same.

    Raises:
        NfbenchError: no module is trained.
    """
    parts = list(_trained_modules(method))
    if not parts:
        raise NfbenchError(f"method '{method.title}' has no trained module to compile; set 'compile: false'")
    if torch.are_deterministic_algorithms_enabled():
        torch.use_deterministic_algorithms(True, warn_only=True)  # again, for the compiler; see 'pick_device'
    for part in parts:
        part.forward = torch.compile(part.forward)  # 'part.compile()' does not compile torch's own modules


def _trained_modules(module: nn.Module) -> Iterator[nn.Module]:
    """The outermost callable modules with trained parameters; lists of modules are not callable."""
    for child in module.children():
        if not any(parameter.requires_grad for parameter in child.parameters()):
            continue
        if type(child).forward is nn.Module.forward:
            yield from _trained_modules(child)
        else:
            yield child


@dataclass
class _Losses:
    """Losses of an epoch, in the printed unit, collected on the device and checked every ``LOOK_EVERY`` steps.

    A check waits until a GPU has finished all queued steps, and leaves it idle until new ones are queued.
    """

    scale: float
    diverged: Callable[[int, float], Diverged]
    """Build the error from the number of the batch, from 1, and its loss."""
    total: float = 0.0
    steps: int = 0
    _unseen: list[tuple[int, Tensor]] = field(default_factory=list)

    def add(self, batch: int, loss: Tensor) -> None:
        self._unseen.append((batch, loss.detach()))
        self.steps += 1
        if len(self._unseen) == LOOK_EVERY:
            self.look()

    def look(self) -> None:
        """Add up the losses not yet checked; raise ``Diverged`` for the first diverged one."""
        unseen, self._unseen = self._unseen, []
        values = torch.stack([loss for _, loss in unseen]).double().tolist() if unseen else []
        for (batch, _), value in zip(unseen, values, strict=True):
            loss = value / self.scale
            if not abs(loss) < EXPLODED:  # true for NaN too
                raise self.diverged(batch, loss)
            self.total += loss


def _train_epoch(
    method: Method,
    optimizer: Adam | OwnOptimizer,
    data: TrainingData,
    settings: TrainedSettings,
    epoch: int,
    course: Course,
) -> tuple[float, float]:
    """Pass over the training images once; return the mean loss in the printed unit and the last learning rate."""

    def diverged(batch: int, loss: float) -> Diverged:
        hint = f"try a lower 'lr' (now {settings.lr:g}) or set 'gradient_clip'"
        return course.diverged(f"epoch {epoch}, batch {batch}", loss, hint)

    method.train()
    losses = _Losses(method.loss_scale, diverged)
    try:
        with tf32(settings.precision == "tf32"):
            for batch, loss in _steps(method, optimizer, data, settings, epoch, course.label):
                losses.add(batch, loss)
    except Exception:
        losses.look()  # a diverged loss may have caused the error of a later step
        raise
    losses.look()
    optimizer.catch_up()
    if not losses.steps:
        raise NfbenchError(f"{course.label}: no batch of epoch {epoch} gave a loss; do all images show anomalies?")
    return losses.total / losses.steps, optimizer.lr


def _steps(
    method: Method,
    optimizer: Adam | OwnOptimizer,
    data: TrainingData,
    settings: TrainedSettings,
    epoch: int,
    label: str,
) -> Iterator[tuple[int, Tensor]]:
    """Take the steps of an epoch; yield the number of each batch, from 1, and its loss."""
    batches = data.n_batches(settings.batch_size, settings.drop_last)
    for number, batch in enumerate(data.batches(epoch, settings.batch_size, settings.drop_last)):
        progressed = (epoch - 1 + number / batches) / settings.epochs
        share = method.own_schedule(progressed)
        optimizer.lr = learning_rate(settings, progressed) if share is None else share * settings.lr
        losses = iter(method.losses(batch._replace(progress=progressed), data.generator("losses", epoch, number)))
        while True:
            with torch.autocast(data.device.type, torch.bfloat16, enabled=settings.precision == "bf16"):
                loss = next(losses, None)
            if loss is None:
                break
            if not (isinstance(loss, Tensor) and loss.ndim == 0 and loss.requires_grad):
                found = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) and loss.ndim else "none"
                raise NfbenchError(f"{label}: a loss of '{method.title}' must be a scalar with a gradient, got {found}")
            optimizer.zero_grad()
            loss.backward()
            if settings.gradient_clip is not None:
                limit = settings.gradient_clip * method.loss_scale  # the limit refers to the printed loss
                torch.nn.utils.clip_grad_norm_(optimizer.parameters, limit)
            optimizer.step()
            yield number + 1, loss

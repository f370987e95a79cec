"""Training with Lightning's trainer, with the epochs of the run and random draws determined by its seed.

(seed, epoch) determines the order of images, and torch is seeded for each step by (seed, epoch, number of the step), so
a resumed training takes the same steps as an uninterrupted one. Checkpoints are written when the next epoch begins,
after all schedules were stepped. Lightning is imported on use.
"""

import math
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nfbench.blocks.anomalib.building import quiet
from nfbench.blocks.features import Features
from nfbench.blocks.passes import OwnTraining

__all__ = ["Loader", "fit"]

_KEPT = (
    "epoch",
    "global_step",
    "pytorch-lightning_version",
    "state_dict",
    "loops",
    "optimizer_states",
    "lr_schedulers",
)
_MEMORY = "memory"


def fit(
    module: Any,
    training: OwnTraining,
    images_of: Callable[[Features[Tensor]], Tensor],
    epochs: int,
    batch_size: int,
    device: torch.device,
    resumes: bool,
) -> None:
    """Train a module of anomalib in place.

    Args:
        module: the module, on its device.
        training: gives the training images and records each epoch.
        images_of: converts features to the model's images ``(B, 3, S, S)``.
        epochs: number of the last epoch.
        batch_size: images per step.
        device: device to compute on.
        resumes: whether training can be resumed from a checkpoint; if not, none are written.
    """
    from lightning.pytorch import Trainer
    from lightning.pytorch.plugins.environments import LightningEnvironment

    memory = _memory(training.state)
    clip = module.trainer_arguments.get("gradient_clip_val")
    with quiet(), _draws_kept(device), torch.enable_grad(), _warning_of_chance():
        _seed(training, "start")
        trainer = Trainer(
            accelerator="gpu" if device.type == "cuda" else "cpu",
            devices=[device.index or 0] if device.type == "cuda" else 1,
            plugins=[memory, LightningEnvironment()],
            callbacks=[_report(training, memory, epochs, device, resumes)],
            max_epochs=epochs,
            gradient_clip_val=clip or None,
            limit_val_batches=0,
            num_sanity_val_steps=0,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )
        try:
            data = _data(training, images_of, batch_size)
            trainer.fit(module, datamodule=data, ckpt_path=_MEMORY if training.state else None)
        finally:
            module.trainer = None
            module.to(device)


def _memory(state: Mapping[str, Any] | None) -> Any:
    """Return an in-memory store of Lightning's single checkpoint, ``kept``."""
    from lightning.pytorch.plugins import CheckpointIO

    class Memory(CheckpointIO):
        kept = state

        def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
            self.kept = _plain({name: checkpoint[name] for name in _KEPT})

        def load_checkpoint(self, path: Any, *_: Any, **__: Any) -> dict[str, Any]:
            return {**(self.kept or {}), "callbacks": {}}

        def remove_checkpoint(self, path: Any) -> None:
            self.kept = None

    return Memory()


def _data(training: OwnTraining, images_of: Callable[[Features[Tensor]], Tensor], batch_size: int) -> Any:
    """Return the data module: batches of the trainer's epoch, and held-out images."""
    from lightning.pytorch import LightningDataModule

    class Data(LightningDataModule):
        train_batch_size = batch_size

        def train_dataloader(self) -> Loader:
            return Loader(self.epoch, images_of, training.n_batches)

        def val_dataloader(self) -> Loader:
            return Loader(training.held_out, images_of, training.n_batches)

        def epoch(self) -> Iterator[Features[Tensor]]:
            trainer: Any = self.trainer
            for batch in training.batches(trainer.current_epoch + 1):
                yield batch.features

    return Data()


def _report(training: OwnTraining, memory: Any, epochs: int, device: torch.device, resumes: bool) -> Any:
    """Return a callback that seeds each step, and reports each epoch to ``training`` when the next one begins."""
    from lightning.pytorch import Callback

    class Report(Callback):
        lr = 0.0

        def __init__(self) -> None:
            self.losses: list[float] = []
            self.terminate = signal.getsignal(signal.SIGTERM)

        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            # Lightning's handler would end the process with exit status 0
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, self.terminate)

        def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
            self.finish(trainer, trainer.current_epoch)
            _seed(training, "epoch", trainer.current_epoch + 1)

        def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
            groups = [group for optimizer in trainer.optimizers for group in optimizer.param_groups]
            self.lr = float(groups[0]["lr"]) if groups else 0.0
            _seed(training, "step", trainer.current_epoch + 1, batch_idx)

        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, *_: Any) -> None:
            self.losses.append(_loss_of(outputs))

        def on_train_end(self, trainer: Any, pl_module: Any) -> None:
            self.finish(trainer, epochs)

        def finish(self, trainer: Any, epoch: int) -> None:
            if self.losses:
                loss, self.losses = math.fsum(self.losses) / len(self.losses), []
                with _modes_kept(trainer.lightning_module), _draws_kept(device):
                    training.done(epoch, loss, self.lr, partial(self.state, trainer) if resumes else None)

        def state(self, trainer: Any) -> Mapping[str, Any]:
            loop = trainer.fit_loop.epoch_loop
            for done in (loop.batch_progress, loop.scheduler_progress, loop.automatic_optimization.optim_progress):
                done.reset_on_run()  # as the next epoch does; else its batches would count as done
            trainer.save_checkpoint(_MEMORY)
            return memory.kept

    return Report()


class Loader:
    """Iterable of batches of normal images as anomalib's classes take them; each iteration is a new pass."""

    def __init__(
        self,
        batches: Callable[[], Iterable[Features[Tensor]]],
        images_of: Callable[[Features[Tensor]], Tensor],
        count: int = 0,
    ) -> None:
        self.batches, self.images_of, self.count = batches, images_of, count

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Any]:
        from anomalib.data import ImageBatch

        for features in self.batches():
            images = self.images_of(features)
            yield ImageBatch(image=images, gt_label=torch.zeros(len(images), dtype=torch.long, device=images.device))


def _seed(training: OwnTraining, *names: object) -> None:
    seed = training.generator(*names).initial_seed()
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002  # for libraries that draw from it


@contextmanager
def _draws_kept(device: torch.device) -> Iterator[None]:
    """Restore the global random states of torch and NumPy."""
    state = np.random.get_state()  # noqa: NPY002
    try:
        with torch.random.fork_rng([device.index or 0] if device.type == "cuda" else []):
            yield
    finally:
        np.random.set_state(state)  # noqa: NPY002


def _loss_of(outputs: Any) -> float:
    """Return the loss of a step: 'loss', or the sum of the losses of several optimizers."""
    values = outputs if isinstance(outputs, Mapping) else {"loss": outputs}
    parts = [values["loss"]] if "loss" in values else list(values.values())
    return float(sum(float(part.detach().sum()) for part in parts if isinstance(part, Tensor)))


def _plain(value: Any) -> Any:
    """Keep values that load safely from a checkpoint; NumPy arrays of schedules are rebuilt from the settings."""
    if isinstance(value, Mapping):
        kept = {key: _plain(part) for key, part in value.items() if not isinstance(part, np.ndarray)}
        return type(value)(kept) if isinstance(value, dict) else kept
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_plain(part) for part in value]
    return value.item() if isinstance(value, np.generic) else value


@contextmanager
def _modes_kept(module: nn.Module) -> Iterator[None]:
    """Restore the mode, training or evaluation, of each part."""
    modes = [(part, part.training) for part in module.modules()]
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode


@contextmanager
def _warning_of_chance() -> Iterator[None]:
    """In deterministic mode, allow the operations of anomalib that have no deterministic version."""
    strict, warns = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(strict, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(strict, warn_only=warns)

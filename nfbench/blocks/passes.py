"""Passes over images: for fitting, and for methods that run their own training loop."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from nfbench.blocks.features import Features

if TYPE_CHECKING:
    from nfbench.blocks.method import Batch

__all__ = ["Batches", "OwnTraining", "Passes"]


class Passes(Protocol):
    """Normal training images for ``prepare``; several passes are possible."""

    def __call__(self) -> Iterable[Features[Tensor]]:
        """All images in order, batch by batch."""

    def shuffled(self, number: int, batch_size: int) -> Iterable[Features[Tensor]]:
        """All images in a random order determined by the training's seed and ``number``, such as an epoch."""

    def generator(self, *names: object) -> torch.Generator:
        """Random draws that follow from the training's seed and ``names``."""


Batches = Callable[[], Iterable[Features[Tensor]]]
"""A set of images in order, batch by batch; each call starts a new pass."""


class OwnTraining(Protocol):
    """Training loop run by the method, from epoch ``first`` to the last epoch of its settings.

    Attributes:
        first: epoch to begin with, from 1.
        state: in a resumed training, the state passed to ``done`` after the previous epoch; else None.
        n_batches: number of batches of an epoch.
    """

    first: int
    state: Mapping[str, Any] | None
    n_batches: int

    def batches(self, epoch: int) -> Iterator["Batch"]:
        """Training images of an epoch, in an order determined by the seed and the epoch."""

    def held_out(self) -> Iterable[Features[Tensor]]:
        """Normal images held out from training, batch by batch; none if 'val_fraction' is 0."""

    def generator(self, *names: object) -> torch.Generator:
        """Random draws that follow from the training's seed and ``names``."""

    def done(self, epoch: int, loss: float, lr: float, state: Callable[[], Mapping[str, Any]] | None) -> None:
        """End an epoch: write its row of the history, keep the model and write a checkpoint if due.

        The model is in evaluation mode afterwards.

        Args:
            epoch: number of the epoch.
            loss: mean over the epoch's steps.
            lr: learning rate of the epoch's last step.
            state: called if a checkpoint is due; returns the state that the next epoch needs, such as that of
                optimizers, as plain values and tensors. None if the training cannot be resumed; it then has no
                checkpoints.

        Raises:
            NfbenchError: the loss is not finite.
        """

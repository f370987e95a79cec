"""How a method goes over images: those it is fitted to, and the epochs of one that takes its steps itself."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from nfbench.blocks.features import Features

if TYPE_CHECKING:
    from nfbench.blocks.method import Batch

__all__ = ["Batches", "OwnTraining", "Passes"]


class Passes(Protocol):
    """The normal training images, for what is fitted or trained in ``prepare``; can be gone over again."""

    def __call__(self) -> Iterable[Features[Tensor]]:
        """All images in order, batch by batch."""

    def shuffled(self, number: int, batch_size: int) -> Iterable[Features[Tensor]]:
        """All images in an order that follows from the training's seed and ``number``, such as that of an epoch."""

    def generator(self, *names: object) -> torch.Generator:
        """Random draws that follow from the training's seed and ``names``."""


Batches = Callable[[], Iterable[Features[Tensor]]]
"""A set of images in order, batch by batch; each call goes over them again."""


class OwnTraining(Protocol):
    """A training whose steps the method takes, from epoch ``first`` to the last of its settings.

    Attributes:
        first: epoch to begin with, from 1.
        state: what ``done`` was given after the epoch before, where a training is resumed; else None.
        n_batches: number of batches of an epoch.
    """

    first: int
    state: Mapping[str, Any] | None
    n_batches: int

    def batches(self, epoch: int) -> Iterator["Batch"]:
        """Training images of an epoch, in an order that follows from the seed and the epoch."""

    def held_out(self) -> Iterable[Features[Tensor]]:
        """Normal images held out of the training, batch by batch; none where 'val_fraction' is 0."""

    def generator(self, *names: object) -> torch.Generator:
        """Random draws that follow from the training's seed and ``names``."""

    def done(self, epoch: int, loss: float, lr: float, state: Callable[[], Mapping[str, Any]] | None) -> None:
        """Ends an epoch: its row of the history, the model if it is to be kept, and now and then a checkpoint.

        The model is in evaluation mode afterwards.

        Args:
            epoch: number of the epoch.
            loss: mean of its steps.
            lr: learning rate of its last step.
            state: called where a checkpoint is due: what the next epoch goes on from, such as states of optimizers, as
                plain values and tensors. None where a training cannot be resumed: it has no checkpoints.

        Raises:
            NfbenchError: the loss is not finite.
        """

"""Base distributions of a flow: a Gaussian with a mean and a scale for each channel (AltUB, Kim et al., 2022).

With ``z`` the latents of the flow, ``mu`` and ``s`` of their channel (arXiv 2210.14913):

    z' = (z - mu) * exp(-s),    log p(z) = log N(z'; 0, I) - H * W * sum(s)

After a flow that ends in an affine map of each channel, as an all-in-one step with a hard permutation does, this is no
larger family of densities: ``mu`` and ``s`` fold into that map, which learns slowly. There is no official code.

- ``learned``: by gradient, in turns with the flow, as the paper does;
- ``fitted``: after training, mean and standard deviation of the latents of all training positions, which is where the
  loss is smallest for a given flow. No step or rate is to be chosen.
"""

from collections.abc import Iterable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

__all__ = ["BASE_INTERVAL", "BASE_RATE", "Base", "ChannelBase", "fit_bases", "is_turn_of_base"]

Base = Literal["standard", "learned", "fitted"]

BASE_INTERVAL = 5
"""One epoch in this many trains the learned base alone, as in the author's later code."""
BASE_RATE = 5.0
"""Learning rate of the learned base over that of the flow."""

_SMALLEST_STD = 1e-6


class ChannelBase(nn.Module):
    """Standardizes the latents of one level, ``(B, C, H, W)``.

    Args:
        channels: number of channels ``C``.
        trained: whether mean and log-scale are parameters; else ``fit`` sets them.

    Attributes:
        mean: ``mu``, ``(C,)``, 0 at first.
        log_scale: ``s``, ``(C,)``, 0 at first.
    """

    mean: Tensor
    log_scale: Tensor

    def __init__(self, channels: int, trained: bool) -> None:
        super().__init__()
        for name in ("mean", "log_scale"):
            if trained:
                self.register_parameter(name, nn.Parameter(torch.zeros(channels)))
            else:
                self.register_buffer(name, torch.zeros(channels))

    def forward(self, z: Tensor, fixed: bool = False) -> tuple[Tensor, Tensor]:
        """Return ``z'`` and ``-sum(s)``, the logarithm of the volume of one position; ``fixed`` takes no gradient."""
        mean, log_scale = (x.detach() if fixed else x for x in (self.mean, self.log_scale))
        return (z - mean[:, None, None]) * torch.exp(-log_scale[:, None, None]), -log_scale.sum()

    @torch.no_grad()
    def reset(self) -> None:
        """Return to the standard normal."""
        self.mean.zero_()
        self.log_scale.zero_()

    @torch.no_grad()
    def fit(self, mean: Tensor, variance: Tensor) -> None:
        """Set mean and scale, each ``(C,)``; a channel that does not vary keeps the scale 1."""
        std = variance.clamp_min(0).sqrt()
        self.mean.copy_(mean)
        self.log_scale.copy_(torch.where(std > _SMALLEST_STD, std, torch.ones_like(std)).log())


def is_turn_of_base(progress: float, epochs: int) -> bool:
    """Whether the epoch after a share ``progress`` of the training is one of the base: the 5th, the 10th, .."""
    return (int(progress * epochs + 1e-9) + 1) % BASE_INTERVAL == 0


def fit_bases(bases: Sequence[ChannelBase], encoded: Iterable[Sequence[Tensor]]) -> None:
    """Fit the base of each level to latents before it, in float64.

    Args:
        bases: one a level.
        encoded: of each batch, the levels' latents ``(B, C_l, H_l, W_l)``.
    """
    sums: list[tuple[int, Tensor, Tensor]] = []
    for latents in encoded:
        found = [_moments(z.double()) for z in latents]
        pairs = zip(sums, found, strict=True)
        sums = [(n + m, total + x, square + y) for (n, total, square), (m, x, y) in pairs] if sums else found
    for base, (count, total, square) in zip(bases, sums, strict=True):
        mean = total / count
        base.fit(mean, square / count - mean.square())


def _moments(z: Tensor) -> tuple[int, Tensor, Tensor]:
    """Number of positions, and sums over them of ``z`` and ``z^2``, ``(C,)``."""
    return z.numel() // z.shape[1], z.sum((0, 2, 3)), z.square().sum((0, 2, 3))

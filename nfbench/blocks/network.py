"""Backbones trained by a method, and the check that a method supports a backbone."""

from collections.abc import Callable
from functools import reduce
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from nfbench.config import BackboneConfig
from nfbench.config.backbone import Shape
from nfbench.core.errors import NfbenchError

if TYPE_CHECKING:
    from nfbench.blocks.method import Method

__all__ = ["NEEDS_NETWORK", "MaxPool", "Network", "check_backbone", "repeatable"]


NEEDS_NETWORK = "trains the backbone; give it a backbone with 'frozen: false'"
"""Error text for a method that lacks the network to train."""


class Network(NamedTuple):
    """A backbone with ``frozen: false``.

    Attributes:
        name: name of the backbone, with its weight tag.
        shapes: ``(C, H, W)`` of each level.
        build: builds it with all parameters trainable; it maps ``(B, 3, H, W)`` to a list of ``(B, C, H, W)``. Its
            weights are the initial weights of training, or random if trained weights are loaded next.
    """

    name: str
    shapes: tuple[Shape, ...]
    build: Callable[[], nn.Module]

    @property
    def last_channels(self) -> int:
        """Channels of the last level."""
        return self.shapes[-1][0]


class MaxPool(nn.Module):
    """``nn.MaxPool2d`` as a maximum over rows, then over columns, with a gradient that is deterministic on a GPU.

    Values are bit-equal; several equal maxima share the gradient.
    """

    def __init__(self, pool: nn.MaxPool2d) -> None:
        super().__init__()
        self.size, self.stride, self.padding = map(_side, (pool.kernel_size, pool.stride, pool.padding))
        self.ceil_mode = pool.ceil_mode

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` to the largest values of its windows."""
        return self._along(self._along(x, 3), 2)

    def _along(self, x: Tensor, dim: int) -> Tensor:
        free = x.shape[dim] + 2 * self.padding - self.size
        count = 1 + (-(-free // self.stride) if self.ceil_mode else free // self.stride)
        beyond = (count - 1) * self.stride + self.size - x.shape[dim] - self.padding
        margins = (self.padding, max(0, beyond))
        x = functional.pad(x, (*margins, 0, 0) if dim == 3 else (0, 0, *margins), value=-torch.inf)
        reach = (count - 1) * self.stride + 1
        columns = (x.narrow(dim, first, reach) for first in range(self.size))
        taken = (part[..., :: self.stride] if dim == 3 else part[..., :: self.stride, :] for part in columns)
        return reduce(torch.maximum, taken)


def _side(size: int | tuple[int, ...]) -> int:
    return size if isinstance(size, int) else size[0]


def repeatable(network: nn.Module) -> nn.Module:
    """Replace layers whose training is not deterministic on a GPU; return the network."""
    for name, child in network.named_children():
        if isinstance(child, nn.MaxPool2d):
            setattr(network, name, MaxPool(child))
        else:
            repeatable(child)
    return network


def check_backbone(method: "Method | type[Method]", backbone: BackboneConfig) -> None:
    """Check that a backbone has what a method reads or trains.

    Raises:
        NfbenchError: a requirement is not met; the message states it.
    """
    levels, image = bool(backbone.level_shapes), backbone.stores_image
    if method.takes_network == "no" and not backbone.frozen:
        raise NfbenchError(f"method '{method.title}' does not train the backbone; remove 'frozen: false'")
    if method.takes_network == "yes" and (backbone.frozen or not backbone.described.taps):
        raise NfbenchError(f"method '{method.title}' {NEEDS_NETWORK}")
    if method.takes_levels and not levels:
        raise NfbenchError(f"method '{method.title}' reads levels, but its backbone has none; choose another one")
    if levels and not method.takes_levels:
        other = "" if method.takes_network == "no" else ", or set 'frozen: false'"
        raise NfbenchError(f"method '{method.title}' reads only the image; give it the backbone 'image'{other}")
    if method.takes_image != image:
        key = "needs 'image: true'" if method.takes_image else "does not use 'image: true'"
        raise NfbenchError(f"method '{method.title}' {key} in its backbone")

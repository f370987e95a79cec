"""The cross-scale nets of CS-Flow: two convolutions per scale, with connections between neighbouring scales.

At scale ``l``, finest first, with ``x_l`` of ``channels_in`` and ``h_l`` of ``hidden_channels`` channels:

1. ``h_l = LeakyReLU_0.1(enter_l(x_l))``;
2. ``r_l = gamma_l * (leave_l(h_l) + from_finer_l(h_{l-1}) + from_coarser_l(up(h_{l+1})))``, without the missing
   neighbour at the ends.

All of these are convolutions with the same kernel and zero padding. ``from_finer`` has stride 2, and ``up`` doubles the
size bilinearly. ``gamma_l`` is learned, one number per scale, initialized to 0 so that a coupling starts as the
identity.
"""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from nfbench.blocks.glow import ListSubnet
from nfbench.blocks.resampling import resampled

__all__ = ["CrossScaleSubnet", "cross_scale_subnet"]

_LEAK = 0.1


def cross_scale_subnet(scales: int, kernel_size: int, hidden_channels: int) -> ListSubnet:
    """Return a builder of ``CrossScaleSubnet`` for given numbers of channels."""
    return partial(CrossScaleSubnet, scales=scales, kernel_size=kernel_size, hidden_channels=hidden_channels)


class CrossScaleSubnet(nn.Module):
    """Predicts log-scales and shifts of all scales from all scales.

    Args:
        channels_in: channels of each input.
        channels_out: channels of each output.
        scales: number of inputs and outputs, finest first.
        kernel_size: odd side of all kernels.
        hidden_channels: channels between the two convolutions.
    """

    def __init__(
        self, channels_in: int, channels_out: int, scales: int, kernel_size: int, hidden_channels: int
    ) -> None:
        super().__init__()

        def convolutions(count: int, channels: tuple[int, int], stride: int = 1) -> nn.ModuleList:
            return nn.ModuleList(
                nn.Conv2d(*channels, kernel_size, stride, padding=kernel_size // 2) for _ in range(count)
            )

        outward = (hidden_channels, channels_out)
        self.enter = convolutions(scales, (channels_in, hidden_channels))
        self.leave = convolutions(scales, outward)
        self.from_coarser = convolutions(scales - 1, outward)
        self.from_finer = convolutions(scales - 1, outward, stride=2)
        self.gamma = nn.Parameter(torch.zeros(scales))

    def forward(self, x: Sequence[Tensor]) -> list[Tensor]:
        """List of ``(B, channels_in, H_l, W_l)``, each half as large as the one before, to ``channels_out``."""
        hidden = [functional.leaky_relu(enter(value), _LEAK) for enter, value in zip(self.enter, x, strict=True)]
        out = [leave(h) for leave, h in zip(self.leave, hidden, strict=True)]
        for finer, (from_coarser, from_finer) in enumerate(zip(self.from_coarser, self.from_finer, strict=True)):
            out[finer] = out[finer] + from_coarser(_doubled(hidden[finer + 1]))
            out[finer + 1] = out[finer + 1] + from_finer(hidden[finer])
        return [gamma * r for gamma, r in zip(self.gamma, out, strict=True)]


def _doubled(x: Tensor) -> Tensor:
    """Twice as high and wide, bilinearly."""
    height, width = x.shape[2:]
    return resampled(x, (2 * height, 2 * width), "bilinear")

"""The fusion step of MSFlow: a two-sided coupling over levels of different sizes and numbers of channels.

Let ``a_l`` and ``b_l`` be the halves of each level's permuted channels. After Zhou et al., arXiv 2308.15300, section
III-C:

1. ``s, t = net2(b_1, b_2, ...)`` and ``a_l' = a_l * exp(c(s_l)) + t_l``;
2. ``s, t = net1(a_1', a_2', ...)`` and ``b_l' = b_l * exp(c(s_l)) + t_l``.

``c`` is the clamp of ``nfbench.blocks.glow``. The step there couples levels with equal numbers of channels.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nfbench.blocks.glow import TwoSidedCoupling
from nfbench.blocks.resampling import resampled
from nfbench.core.errors import NfbenchError

__all__ = ["ChannelNorm", "FusionStep", "convolution"]


class FusionStep(TwoSidedCoupling):
    """Permutation of each level's channels, then a two-sided coupling of all levels together.

    Args:
        dims_in: shapes without the batch axis, fine to coarse.
        dims_c: conditions at the size of the coarsest level, which the nets mix with the levels; MSFlow has none.
        generator: draws the permutations, level by level.
        clamp: largest absolute log-scale.

    Raises:
        NfbenchError: a level has an odd number of channels.
    """

    def __init__(
        self,
        dims_in: Sequence[tuple[int, ...]],
        dims_c: Sequence[tuple[int, ...]] | None = None,
        *,
        generator: torch.Generator,
        clamp: float,
    ) -> None:
        super().__init__(dims_in, dims_c)
        channels = [shape[0] for shape in dims_in]
        if any(width % 2 for width in channels):
            raise NfbenchError(f"the fusion flow needs levels with even numbers of channels, got {channels}")
        self.clamp = clamp
        halves = [width // 2 for width in channels]
        given = sum(shape[0] for shape in dims_c or ())
        self.net1, self.net2 = _FusionNet(halves, given), _FusionNet(halves, given)
        for level, width in enumerate(channels):
            order = torch.randperm(width, generator=generator, device=generator.device)
            self.register_buffer(f"permutation_{level}", order.to(torch.get_default_device()))

    def predict(self, net: nn.Module, x: Sequence[Tensor], c: Sequence[Tensor]) -> list[Tensor]:
        """Call a net on one half of all levels and the conditions."""
        return net(x, c)

    @property
    def orders(self) -> Sequence[Tensor]:
        """Permutation of the channels of each level."""
        return [getattr(self, f"permutation_{level}") for level in range(len(self.dims_in))]


class _FusionNet(nn.Module):
    """Predicts log-scales and shifts of all levels from the other halves of all levels.

    The levels are mixed at the size of the coarsest one; the result is resized and added to each level.
    """

    def __init__(self, widths: Sequence[int], given: int = 0) -> None:
        super().__init__()
        total, self.widths = sum(widths), list(widths)
        hidden = max(1, (total + given) // 4)
        self.mix = nn.Sequential(
            convolution(total + given, hidden),
            ChannelNorm(hidden),
            nn.ReLU(),
            convolution(hidden, total),
            nn.ReLU(),
        )
        self.log_scale = nn.ModuleList(convolution(width, width) for width in widths)
        self.shift = nn.ModuleList(convolution(width, width) for width in widths)

    def forward(self, x: Sequence[Tensor], c: Sequence[Tensor] = ()) -> list[Tensor]:
        """List of ``(B, C_l, H_l, W_l)`` to ``(B, 2 C_l, H_l, W_l)``, given conditions at the coarsest size."""
        coarsest = _size(x[-1])
        mixed = self.mix(torch.cat([*(resampled(value, coarsest, "average") for value in x), *c], dim=1))
        parts = zip(x, mixed.split(self.widths, dim=1), strict=True)
        fused = [value + resampled(part, _size(value), "bilinear_aligned") for value, part in parts]
        nets = zip(fused, self.log_scale, self.shift, strict=True)
        return [torch.cat([log_scale(value), shift(value)], dim=1) for value, log_scale, shift in nets]


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of each position."""

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` to the same shape."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def convolution(channels_in: int, channels_out: int) -> nn.Conv2d:
    """Return a 3 x 3 convolution with zero padding that keeps the size."""
    return nn.Conv2d(channels_in, channels_out, 3, padding=1)


def _size(x: Tensor) -> tuple[int, int]:
    return x.shape[2], x.shape[3]

"""Invertible up-sampling: four channels become a 2 x 2 block of pixels (i-RevNet, Jacobsen et al., ICLR 2018)."""

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional

from nfbench.blocks.freia import InvertibleModule

__all__ = ["InvertibleUpsampling"]


class InvertibleUpsampling(InvertibleModule):
    """``(B, 4C, H, W) -> (B, C, 2H, 2W)``: consecutive channels fill (0,0), (0,1), (1,0), (1,1); ``log|det J| = 0``.

    The order is that of FrEIA's ``IRevNetUpsampling`` with its default backend, which U-Flow uses.

    Raises:
        ValueError: the channels cannot be divided by 4.
    """

    def __init__(self, dims_in: Sequence[tuple[int, ...]], dims_c: Sequence[tuple[int, ...]] | None = None) -> None:
        super().__init__(dims_in, dims_c)
        if dims_in[0][0] % 4:
            raise ValueError(f"'dims_in' needs channels divisible by 4, got {dims_in[0][0]}")

    def forward(
        self, x: Sequence[Tensor], c: Sequence[Tensor] = (), rev: bool = False, jac: bool = True
    ) -> tuple[tuple[Tensor], Tensor]:
        """Move channels into space, or back with ``rev``."""
        y = functional.pixel_unshuffle(x[0], 2) if rev else functional.pixel_shuffle(x[0], 2)
        return (y,), x[0].new_zeros(x[0].shape[0])

    def output_dims(self, input_dims: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
        """Shape after the forward direction."""
        channels, height, width = input_dims[0]
        return [(channels // 4, 2 * height, 2 * width)]

"""Subnets of affine couplings: the small networks that predict log-scales and shifts."""

from collections.abc import Callable

from torch import nn

__all__ = ["Subnet", "conv_subnet", "fc_subnet"]

Subnet = Callable[[int, int], nn.Module]
"""Build a network from ``channels_in`` to ``channels_out`` that keeps the spatial size."""


def conv_subnet(kernel_size: int, hidden_ratio: float = 1.0) -> Subnet:
    """Convolution, ReLU, convolution, both with zero padding that keeps the size.

    Args:
        kernel_size: odd side of both kernels.
        hidden_ratio: hidden channels as a share of the subnet's input channels, rounded down.

    Returns:
        A builder for maps ``(B, C_in, H, W) -> (B, C_out, H, W)``.
    """

    def build(channels_in: int, channels_out: int) -> nn.Module:
        hidden = int(channels_in * hidden_ratio)
        return nn.Sequential(
            nn.Conv2d(channels_in, hidden, kernel_size, padding=kernel_size // 2),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, channels_out, kernel_size, padding=kernel_size // 2),
        )

    return build


def fc_subnet(hidden_ratio: float = 2.0) -> Subnet:
    """Linear, ReLU, linear on vectors ``(B, C)``, as CFLOW-AD and its descendants use it."""

    def build(channels_in: int, channels_out: int) -> nn.Module:
        hidden = int(channels_in * hidden_ratio)
        return nn.Sequential(nn.Linear(channels_in, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, channels_out))

    return build

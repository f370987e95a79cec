"""Structural similarity of images (Wang et al., IEEE Transactions on Image Processing 2004)."""

import torch
from torch import Tensor

__all__ = ["ssim"]

_SIGMA = 1.5
_LUMINANCE, _CONTRAST = 0.01**2, 0.03**2


def ssim(x: Tensor, y: Tensor, window: int = 11) -> Tensor:
    """Structural similarity of each pixel, in [-1, 1], mean over channels.

    Args:
        x: images ``(B, C, H, W)`` in [0, 1].
        y: as ``x``.
        window: side of the Gaussian window with sigma 1.5, odd; borders are mirrored.

    Returns:
        ``(B, H, W)``.
    """
    fields = torch.stack([x, y, x.square(), y.square(), x * y])
    rows, columns = (_blur(size, window, x) for size in x.shape[2:])
    means = rows @ fields @ columns.T
    mean_x, mean_y, square_x, square_y, product = means
    covariance = product - mean_x * mean_y
    variances = square_x - mean_x.square() + square_y - mean_y.square()
    luminance = (2 * mean_x * mean_y + _LUMINANCE) / (mean_x.square() + mean_y.square() + _LUMINANCE)
    return (luminance * (2 * covariance + _CONTRAST) / (variances + _CONTRAST)).mean(1)


def _blur(size: int, window: int, like: Tensor) -> Tensor:
    """Matrix ``(size, size)`` that blurs a line of pixels; single-channel convolutions are slow on CPUs."""
    offsets = torch.arange(-(window // 2), window // 2 + 1, device=like.device)
    weights = torch.exp(-0.5 * (offsets / _SIGMA).square().to(like.dtype))
    places = (torch.arange(size, device=like.device)[:, None] + offsets).abs()
    places = torch.where(places < size, places, 2 * (size - 1) - places)
    return like.new_zeros(size, size).scatter_add_(1, places, (weights / weights.sum()).expand(size, -1))

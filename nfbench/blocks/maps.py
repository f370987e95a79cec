"""From scores of positions to anomaly maps and image scores."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["resize_maps", "smooth", "top_percent_mean"]


def resize_maps(maps: Sequence[Tensor], size: tuple[int, int], align_corners: bool = False) -> Tensor:
    """Maps of the levels, each ``(B, H_l, W_l)``, up-sampled bilinearly to ``size``: ``(L, B, H, W)``."""
    return torch.stack(
        [functional.interpolate(x[:, None], size, mode="bilinear", align_corners=align_corners)[:, 0] for x in maps]
    )


def smooth(maps: Tensor, sigma: float, border: Literal["replicate", "reflect"] = "replicate") -> Tensor:
    """Gaussian blur of ``(B, H, W)``, ``sigma`` in pixels, cut at 4 sigma, with the borders repeated or mirrored."""
    if not sigma:
        return maps
    radius = math.ceil(4 * sigma)
    offsets = torch.arange(-radius, radius + 1, device=maps.device, dtype=maps.dtype)
    kernel = torch.exp(-0.5 * (offsets / sigma).square())
    kernel = (kernel / kernel.sum()).view(1, 1, 1, -1)
    padded = functional.pad(maps[:, None], [radius] * 4, mode=border)
    return functional.conv2d(functional.conv2d(padded, kernel), kernel.transpose(2, 3))[:, 0]


def top_percent_mean(maps: Tensor) -> Tensor:
    """Mean of the top 1 % of each map: ``(B, H, W)`` to ``(B,)``."""
    flat = maps.flatten(1)
    return flat.topk(max(1, flat.shape[1] // 100), dim=1).values.mean(1)

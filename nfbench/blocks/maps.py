"""Anomaly maps and image scores from scores of positions."""

from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn import functional

from nfbench.blocks.exporting import narrowed

__all__ = [
    "GradientSettings",
    "ImageRule",
    "ScoresByMap",
    "image_scores",
    "resize_maps",
    "smooth",
    "top_percent_mean",
    "top_share_mean",
]


class GradientSettings(NamedTuple):
    """Settings of maps from gradients of ``Method.localized`` with respect to the image."""

    views: int
    """Number of fixed rotations of the image that maps are averaged over."""
    sigma: float
    """Sigma of a Gaussian on each view's gradient, in pixels of the image."""
    absolute: bool = False
    """Blur absolute values of the gradient, so that signs do not cancel out."""


ImageRule = Literal["max", "top1"]


@runtime_checkable
class ScoresByMap(Protocol):
    """A method whose image scores follow from its maps, so that merged maps of tiles give those of whole images."""

    @property
    def image_rule(self) -> ImageRule:
        """Maximum of a map, or mean of its top 1 %."""


def resize_maps(maps: Sequence[Tensor], size: tuple[int, int], align_corners: bool = False) -> Tensor:
    """Maps of the levels, each ``(B, H_l, W_l)``, up-sampled bilinearly to ``size``: ``(L, B, H, W)``."""
    return torch.stack(
        [
            functional.interpolate(narrowed(x)[:, None], size, mode="bilinear", align_corners=align_corners)[:, 0]
            for x in maps
        ]
    )


def smooth(maps: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of ``(B, H, W)``, ``sigma`` in pixels, equal to ``scipy.ndimage.gaussian_filter``.

    The kernel is truncated at 4 sigma. Maps of any size are mirrored at their borders, including border pixels.
    """
    radius = int(4 * sigma + 0.5)
    if not radius:
        return maps
    maps = narrowed(maps)
    offsets = torch.arange(-radius, radius + 1, device=maps.device, dtype=maps.dtype)
    kernel = torch.exp(-0.5 * (offsets / sigma).square())
    kernel = (kernel / kernel.sum()).view(1, 1, 1, -1)
    x = maps[:, None, :, _mirrored(maps.shape[2], radius, maps.device)]
    x = functional.conv2d(x, kernel)[:, :, _mirrored(maps.shape[1], radius, maps.device)]
    return functional.conv2d(x, kernel.transpose(2, 3))[:, 0]


def _mirrored(size: int, margin: int, device: torch.device) -> Tensor:
    """Indices ``-margin`` to ``size + margin - 1`` of a signal that is mirrored at its ends, in ``[0, size)``."""
    index = torch.arange(-margin, size + margin, device=device) % (2 * size)
    return torch.minimum(index, 2 * size - 1 - index)


def image_scores(maps: Tensor, rule: ImageRule) -> Tensor:
    """Scores of images by their maps ``(B, H, W)``: ``(B,)``."""
    return top_percent_mean(maps) if rule == "top1" else maps.flatten(1).amax(1)


def top_percent_mean(maps: Tensor) -> Tensor:
    """Mean of the top 1 % of each map: ``(B, H, W)`` to ``(B,)``."""
    return top_share_mean(maps, 0.01)


def top_share_mean(maps: Tensor, share: float) -> Tensor:
    """Mean of the largest ``share`` of each map's pixels: ``(B, H, W)`` to ``(B,)``."""
    flat = maps.flatten(1)
    return flat.topk(max(1, int(flat.shape[1] * share + 1e-9)), dim=1).values.mean(1)

"""sPRO, the saturated per-region overlap of MVTec LOCO AD (Bergmann et al., IJCV 2022).

An image has a mask per defect, a channel; masks may overlap. A missing object has a mask of all places where it could
be, so a channel counts as found when as many of its pixels are detected as its saturation area has:

    sPRO(t) = mean over the channels of all images of min(number of its pixels with score >= t / saturation area, 1)

FPR(t) counts the pixels that are free of every channel, good images included. The area under sPRO against FPR starts at
(0, 0), is linear between the points of all distinct scores and at the limit, and is divided by the limit. A channel's
saturation area of its largest scores decide, so the area is a mean over these; see ``_levels``. With saturation areas
equal to the channels' areas, sPRO is PRO with channels as regions.

The official code samples thresholds until neighbours on the curve are 0.01 apart, and above ten million scores takes
them from a random subset. Saturation areas count pixels of the original size, so maps must have that size.
"""

import math
import warnings
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from nfbench.metrics._inputs import as_truth, check_maps
from nfbench.metrics._levels import FalsePositives
from nfbench.metrics._tails import largest

__all__ = ["Channel", "au_spro", "au_spro_of", "saturation_area"]


class Channel(NamedTuple):
    """A defect of an image.

    Attributes:
        mask: ``(H, W)``, boolean or 0 and 1, at least one pixel.
        saturation: pixels at which it counts as found, from 1 to the area of the mask; see ``saturation_area``.
    """

    mask: Any
    saturation: int


def saturation_area(area: int, threshold: float, relative: bool) -> int:
    """Return the saturation area in pixels, as the official code computes it from ``defects_config.json``.

    Args:
        area: pixels of the mask.
        threshold: ``saturation_threshold`` of the defect, in pixels or as a share of the area.
        relative: ``relative_saturation`` of the defect.

    Raises:
        ValueError: the result is no pixel, or a share is above 1.
    """
    if relative and threshold > 1:
        raise ValueError(f"a relative saturation threshold is at most 1, got {threshold:g}")
    found = int(threshold * area) if relative else min(int(threshold), area)  # truncated as floats: 0.29 * 100 is 28
    if found < 1:
        raise ValueError(f"a saturation threshold of {threshold:g} leaves no pixel of {area}")
    return found


def au_spro(
    maps: Sequence[Any], channels: Sequence[Sequence[Channel]], fpr_limits: Sequence[float] = (0.05,)
) -> tuple[float, ...]:
    """Return the area under sPRO up to false positive rates, each divided by its limit.

    Args:
        maps: ``(H, W)`` each, at the original size of the images, higher is more anomalous; sizes may differ.
        channels: of each image; none for good images.
        fpr_limits: in (0, 1].

    Returns:
        Values in [0, 1] by limit; all NaN, with a warning, without a channel or without a pixel free of channels.

    Raises:
        ValueError: NaN or infinity, other limits, numbers or shapes that differ, an empty mask, or a saturation area
            outside of 1 to the area of its mask; names the image's number.
    """
    if not fpr_limits or not all(0 < limit <= 1 for limit in fpr_limits):
        raise ValueError(f"'fpr_limits' must be in (0, 1], got {', '.join(map(str, fpr_limits))}")
    scores = check_maps(maps)
    if len(channels) != len(scores):
        raise ValueError(f"'channels' must have as many images as 'maps' ({len(scores)}), got {len(channels)}")
    checked = [
        [Channel(_checked(channel, score_map.shape, index), channel.saturation) for channel in of_image]
        for index, (score_map, of_image) in enumerate(zip(scores, channels, strict=True))
    ]
    n_free = sum(
        int(np.count_nonzero(_free(score_map, of_image))) for score_map, of_image in zip(scores, checked, strict=True)
    )
    areas = au_spro_of(zip(scores, checked, strict=True), n_free, fpr_limits)
    if math.isnan(areas[0]):
        warnings.warn("sPRO is undefined without both a channel and a pixel free of channels", stacklevel=2)
    return areas


def au_spro_of(
    pairs: Iterable[tuple[np.ndarray, Sequence[Channel]]], n_free: int, fpr_limits: Sequence[float] = (0.05,)
) -> tuple[float, ...]:
    """Return the area under sPRO as ``au_spro`` does, from checked images that are read once.

    Args:
        pairs: maps ``(H, W)``, and the channels of the image with boolean masks.
        n_free: number of pixels of all images that are free of channels.
        fpr_limits: in (0, 1].

    Returns:
        Values by limit; NaN without a channel or without a pixel free of channels.
    """
    found: list[np.ndarray] = []
    collected = FalsePositives(max(fpr_limits))
    for score_map, of_image in pairs:
        found += [largest(score_map[channel.mask], channel.saturation) for channel in of_image]
        collected.add(score_map[_free(score_map, of_image)], 1 / max(n_free, 1))
    if not found or not n_free:
        return (math.nan,) * len(fpr_limits)
    levels = collected.levels()
    means = [np.mean([levels.areas(pixels, limit).mean() for pixels in found]) / limit for limit in fpr_limits]
    return tuple(np.minimum(means, 1).tolist())


def _free(score_map: np.ndarray, channels: Sequence[Channel]) -> np.ndarray:
    """Return the pixels that are in no channel, ``(H, W)`` bool."""
    taken = np.zeros(score_map.shape, dtype=bool)
    for channel in channels:
        taken |= channel.mask
    return ~taken


def _checked(channel: Channel, shape: tuple[int, ...], index: int) -> np.ndarray:
    """Return the mask of a channel of an image as booleans; raise ValueError as ``au_spro`` does."""
    mask = as_truth(channel.mask, "mask", f"image {index}: ")
    if mask.shape != shape:
        raise ValueError(f"image {index}: the mask has shape {mask.shape}, the map {shape}")
    area = int(np.count_nonzero(mask))
    if not area:
        raise ValueError(f"image {index}: the mask of a channel is empty")
    if not 1 <= channel.saturation <= area:
        raise ValueError(f"image {index}: a saturation area is from 1 to {area} pixels, got {channel.saturation}")
    return mask

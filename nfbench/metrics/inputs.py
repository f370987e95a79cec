"""What pixel metrics take: maps and masks of images that may differ in size."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import ndimage

__all__ = ["as_array", "check_maps", "check_pairs", "label_regions"]

_EIGHT_CONNECTED = np.ones((3, 3), dtype=int)


def label_regions(mask: np.ndarray) -> np.ndarray:
    """Ground-truth regions: the 8-connected components of ``(H, W)``, numbered from 1, 0 where normal."""
    return ndimage.label(mask, structure=_EIGHT_CONNECTED)[0]


def as_array(values: Any) -> np.ndarray:
    """An array of what is one already, a list, or a tensor on any device, with or without gradient."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        values = values.float() if str(values.dtype) == "torch.bfloat16" else values  # NumPy has no such type
    array = np.asarray(values)
    if array.dtype.kind not in "fiub":
        raise ValueError(f"expected real numbers, got {array.dtype}")
    return array


def check_maps(maps: Sequence[Any]) -> list[np.ndarray]:
    """Maps as arrays.

    Args:
        maps: ``(H, W)`` each, arrays or tensors; sizes may differ.

    Raises:
        ValueError: there are none, or one has not two axes, or NaN or infinity; names the image's number.
    """
    arrays = [as_array(score_map) for score_map in maps]
    if not arrays:
        raise ValueError("'maps' must have at least one image")
    for index, array in enumerate(arrays):
        if array.ndim != 2 or not array.size:
            raise ValueError(f"'maps' must have shape (H, W), image {index} has {array.shape}")
        if not np.isfinite(array).all():
            raise ValueError(f"'maps' must be finite, image {index} has NaN or infinity")
    return arrays


def check_pairs(maps: Sequence[Any], masks: Sequence[Any]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Maps, and masks as booleans.

    Args:
        maps: as for ``check_maps``.
        masks: of the same shapes, boolean or 0 and 1.

    Raises:
        ValueError: as ``check_maps``; numbers or shapes differ; a mask has other values.
    """
    arrays = check_maps(maps)
    if len(masks) != len(arrays):
        raise ValueError(f"'masks' must have as many images as 'maps' ({len(arrays)}), got {len(masks)}")
    checked = []
    for index, (array, given) in enumerate(zip(arrays, masks, strict=True)):
        mask = as_array(given)
        if mask.shape != array.shape:
            raise ValueError(f"image {index}: the mask has shape {mask.shape}, the map {array.shape}")
        if mask.dtype != bool and not np.isin(mask, (0, 1)).all():
            values = ", ".join(map(str, np.unique(mask)[:4]))
            raise ValueError(
                f"image {index}: a mask holds 0 and 1, this one {values}; give mask > 0 if any is a defect"
            )
        checked.append(mask.astype(bool))
    return arrays, checked

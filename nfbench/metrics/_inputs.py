"""Inputs of all metrics: scores, and labels or masks of 0 and 1, as arrays, lists or tensors."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from scipy import ndimage

__all__ = ["as_array", "as_truth", "check_finite", "check_labelled", "check_maps", "check_pairs", "label_regions"]

_EIGHT_CONNECTED = np.ones((3, 3), dtype=int)


def label_regions(mask: np.ndarray) -> np.ndarray:
    """Ground-truth regions: the 8-connected components of ``(H, W)``, numbered from 1, 0 where normal."""
    return ndimage.label(mask, structure=_EIGHT_CONNECTED)[0]


def as_array(values: Any) -> np.ndarray:
    """Return an array of real numbers or booleans.

    Args:
        values: an array, a tensor on any device, with or without gradient, or a list of numbers, arrays or tensors.

    Raises:
        ValueError: other values, lists of unequal lengths, or an array with masked entries.
    """
    if isinstance(values, list | tuple):
        nested = (list, tuple)
        values = [as_array(v) if isinstance(v, nested) or hasattr(v, "detach") else v for v in values]
    elif hasattr(values, "detach"):
        values = values.detach().cpu()
        own = values.is_floating_point() and not hasattr(np, str(values.dtype).removeprefix("torch."))
        values = values.float() if own else values  # such as bfloat16, which NumPy does not have
    try:
        array = np.asarray(values)
    except (TypeError, RuntimeError) as error:
        raise ValueError(f"expected real numbers, got {type(values).__name__}: {error}") from None
    if array.dtype.kind not in "fiub":
        raise ValueError(f"expected real numbers, got {array.dtype}")
    if np.ma.is_masked(values):
        raise ValueError("expected real numbers, got an array with masked entries; pass the unmasked values only")
    return array


def as_truth(values: Any, name: str, where: str = "") -> np.ndarray:
    """Return labels or a mask as booleans.

    Args:
        values: booleans, or numbers of any type that are 0 or 1.
        name: what they are, in errors.
        where: prefix of error messages.

    Raises:
        ValueError: other values.
    """
    array = as_array(values)
    if array.dtype != bool and not np.isin(array, (0, 1)).all():
        found = ", ".join(map(str, np.unique(array)[:4]))
        raise ValueError(f"{where}a {name} holds 0 and 1, this one {found}; give {name} > 0 if any is a defect")
    return array.astype(bool)


def check_finite(array: np.ndarray, what: str) -> None:
    """Raise ValueError if an array has NaN or infinity."""
    if not np.isfinite(array).all():
        raise ValueError(f"{what} must be finite, got NaN or infinity")


def check_labelled(scores: Any, labels: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return scores of images, and labels as booleans.

    Args:
        scores: ``(N,)``, any real type.
        labels: ``(N,)``, 0 and 1.

    Raises:
        ValueError: no scores, NaN or infinity, other labels, or shapes that differ.
    """
    array, truth = as_array(scores), as_truth(labels, "label", "'labels': ")
    if array.ndim != 1 or not array.size:
        raise ValueError(f"'scores' must have shape (N,) and at least one value, got {array.shape}")
    if truth.shape != array.shape:
        raise ValueError(f"'labels' must have the shape of 'scores' {array.shape}, got {truth.shape}")
    check_finite(array, "'scores'")
    return array, truth


def check_maps(maps: Iterable[Any]) -> list[np.ndarray]:
    """Return maps as arrays.

    Args:
        maps: ``(H, W)`` each, arrays, lists or tensors; sizes may differ.

    Raises:
        ValueError: there are no maps, or one does not have two axes or has NaN or infinity; names the image's number.
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
    """Return maps, and masks as booleans.

    Args:
        maps: as for ``check_maps``.
        masks: of the same shapes, boolean or 0 and 1.

    Raises:
        ValueError: as ``check_maps``; numbers or shapes differ; a mask has other values.
    """
    arrays = check_maps(maps)
    checked = [as_truth(mask, "mask", f"image {index}: ") for index, mask in enumerate(masks)]
    if len(checked) != len(arrays):
        raise ValueError(f"'masks' must have as many images as 'maps' ({len(arrays)}), got {len(checked)}")
    for index, (array, mask) in enumerate(zip(arrays, checked, strict=True)):
        if mask.shape != array.shape:
            raise ValueError(f"image {index}: the mask has shape {mask.shape}, the map {array.shape}")
    return arrays, checked

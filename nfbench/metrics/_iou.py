"""Mean intersection over union, as U-Flow defines it, at a threshold, at all thresholds, and at the best one.

IoU of an image is (TP + eps) / (TP + FP + FN + eps) with eps the machine epsilon of float64, so that a good image
without a detection counts 1 and with any detection about 0. It is aggregated in three ways, never to be mixed:

- ``all``: mean over all images, good ones included, as in U-Flow's Table 3;
- ``anomalous``: mean over the images that have a defect;
- ``pooled``: of the pixels of all images together.

A pixel is detected if ``score > threshold``.
"""

import math
import warnings
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from nfbench.metrics._inputs import as_array, as_truth, check_maps, check_pairs
from nfbench.metrics._pixel import rank
from nfbench.metrics._ranking import RankedScores, just_below
from nfbench.metrics._tails import UpperTail, largest

__all__ = [
    "AGGREGATIONS",
    "IouSweep",
    "Optimum",
    "fair_threshold",
    "fair_threshold_of",
    "iou_sweep",
    "mean_iou",
    "miou",
    "miou_curve",
    "miou_oracle",
]

Aggregation = Literal["all", "anomalous", "pooled"]
AGGREGATIONS: tuple[Aggregation, ...] = ("all", "anomalous", "pooled")

_EPS = float(np.finfo(np.float64).eps)


class Optimum(NamedTuple):
    """The largest mIoU and the threshold that gives it."""

    miou: float
    threshold: float


class IouSweep(NamedTuple):
    """Optimum over all distinct scores, and ``(T,)`` values at the requested thresholds, by aggregation."""

    optimum: dict[str, Optimum]
    curve: dict[str, np.ndarray]


def miou(maps: Sequence[Any], masks: Sequence[Any], threshold: float, aggregation: Aggregation = "all") -> float:
    """Return the mean IoU of the masks ``map > threshold``.

    Args:
        maps: ``(H, W)`` each, higher is more anomalous; sizes may differ.
        masks: ``(H, W)`` each, boolean or 0 and 1.
        threshold: above it, a pixel is detected.
        aggregation: see the module.

    Returns:
        In [0, 1]; NaN, with a warning, for ``anomalous`` where no image has a defect.

    Raises:
        ValueError: as ``nfbench.metrics.pixel_areas``.
    """
    _check_aggregation(aggregation)
    limit = _as_thresholds(threshold).item()
    scores, masks = check_pairs(maps, masks)
    # in float64, where no rounding of the threshold to the scores' type decides
    value = mean_iou((score_map.astype(np.float64) > limit for score_map in scores), masks)[aggregation]
    _warn_if_undefined(value)
    return value


def mean_iou(detected: Iterable[Any], masks: Iterable[Any]) -> dict[str, float]:
    """Mean IoU of detected masks ``(H, W)``, by aggregation; NaN for ``anomalous`` where no image has a defect.

    Args:
        detected: boolean or 0 and 1, image by image.
        masks: ground truth of the same shapes, boolean or 0 and 1.

    Raises:
        ValueError: no image, other values, or numbers or shapes that differ.
    """
    counts = [
        _overlap(as_truth(found, "mask", f"image {index}: "), as_truth(mask, "mask", f"image {index}: "), index)
        for index, (found, mask) in enumerate(zip(detected, masks, strict=True))
    ]
    if not counts:
        raise ValueError("'masks' must have at least one image")
    return _aggregate(*np.array(counts).T)


def miou_curve(maps: Sequence[Any], masks: Sequence[Any], thresholds: Sequence[float]) -> dict[str, np.ndarray]:
    """Return the mean IoU at each threshold, ``(T,)`` by aggregation; as ``miou``, without the warning."""
    return iou_sweep(rank(maps, masks), thresholds).curve


def miou_oracle(maps: Sequence[Any], masks: Sequence[Any], aggregation: Aggregation = "all") -> Optimum:
    """Return the largest mIoU over all thresholds, and its threshold; arguments and errors as for ``miou``."""
    _check_aggregation(aggregation)
    optimum = iou_sweep(rank(maps, masks)).optimum[aggregation]
    _warn_if_undefined(optimum.miou)
    return optimum


def fair_threshold(normal_maps: Sequence[Any] | np.ndarray, pixels_per_image: float = 1.0) -> float:
    """Return the smallest threshold with at most this many false positive pixels per normal image, on average.

    An exact quantile. The official code of U-Flow interpolates a ROC curve whose points scikit-learn has thinned, and
    so arrives near the largest score of all; see docs/metrics.md.

    Args:
        normal_maps: maps ``(H, W)`` of normal images, preferably ones that the model was not fitted to.
        pixels_per_image: pixels allowed above the threshold, per image; 0 gives the largest score.

    Raises:
        ValueError: no map, NaN or infinity in one, or a number of pixels below 0.
    """
    if not 0 <= pixels_per_image < np.inf:
        raise ValueError(f"'pixels_per_image' must be at least 0 and finite, got {pixels_per_image}")
    maps = check_maps(normal_maps)
    allowed = math.floor(pixels_per_image * len(maps) + 1e-9)  # 0.29 * 100 is 29 images, not 28
    if allowed >= sum(score_map.size for score_map in maps):
        return -np.inf
    tops = [largest(score_map.ravel(), allowed + 1) for score_map in maps]
    return float(largest(np.concatenate(tops), allowed + 1).min())


def fair_threshold_of(tail: UpperTail) -> float:
    """Return ``fair_threshold`` with one pixel per image, from the largest pixels only."""
    return float(tail.values[tail.n_images]) if tail.n_images < tail.n_pixels else -np.inf


def iou_sweep(ranked: RankedScores, thresholds: Sequence[float] = ()) -> IouSweep:
    """Return the exact mean IoU over all thresholds: every distinct score is one.

    Args:
        ranked: the scores of all images.
        thresholds: of the curves.

    Returns:
        Optimum and curves by aggregation; NaN for ``anomalous`` where no image has a defect.
    """
    image, is_region = ranked.image, ranked.region_size > 0
    n_anomalous = np.bincount(image, ranked.region_size).astype(np.int64)
    tp, n_detected = np.zeros_like(n_anomalous), np.zeros_like(n_anomalous)
    wanted = _as_thresholds(thresholds)
    nothing = _aggregate(tp, n_detected, n_anomalous)
    curve = {name: np.full(wanted.shape, value) for name, value in nothing.items()}
    optimum = {name: Optimum(value, np.inf) for name, value in nothing.items()}
    for codes, last, at in ranked.pieces():
        start = 0
        images, regions = image[codes], is_region[codes]
        # upper bound from here on: each image has all of its defect and no further false positive
        bound = _aggregate(n_anomalous, n_detected - tp + n_anomalous, n_anomalous)
        if any(bound[name] > optimum[name].miou for name in AGGREGATIONS):
            for name, values in _after_each_score(images, regions, last, (tp, n_detected, n_anomalous)).items():
                if len(values) and values.max() > optimum[name].miou:
                    optimum[name] = Optimum(float(values.max()), just_below(at[values.argmax()]))
        passed = np.searchsorted(-at.astype(np.float64), -wanted) - 1  # the lowest value above each threshold
        for end in np.unique(passed[passed >= 0]):
            _count(tp, n_detected, images[start : last[end] + 1], regions[start : last[end] + 1])
            start = last[end] + 1
            for name, value in _aggregate(tp, n_detected, n_anomalous).items():
                curve[name][passed == end] = value
        _count(tp, n_detected, images[start:], regions[start:])
    return IouSweep(optimum, curve)


def _after_each_score(
    image: np.ndarray, is_region: np.ndarray, last: np.ndarray, counts: tuple[np.ndarray, np.ndarray, np.ndarray]
) -> dict[str, np.ndarray]:
    """Mean IoU when the scores up to each of ``last`` are detected, in addition to ``counts``."""
    tp, n_detected, n_anomalous = counts
    order = np.argsort(image.astype(np.uint16) if len(tp) < 1 << 16 else image, kind="stable")
    sorted_image = image[order]
    n_scores = np.bincount(image, minlength=len(tp))
    first = np.repeat(np.cumsum(n_scores) - n_scores, n_scores)
    within = np.arange(1, len(image) + 1) - first
    found = np.cumsum(is_region[order])
    found -= np.append(0, found)[first]
    after = _iou(tp[sorted_image] + found, n_detected[sorted_image] + within, n_anomalous[sorted_image])
    before = np.append(np.nan, after[:-1])
    starts = within == 1
    before[starts] = _iou(tp, n_detected, n_anomalous)[sorted_image[starts]]
    change = np.empty_like(after)
    change[order] = after - before
    start = _aggregate(tp, n_detected, n_anomalous)
    has_defect = n_anomalous > 0
    pooled_tp = tp.sum() + np.cumsum(is_region)[last]
    of_all = start["all"] + np.cumsum(change)[last] / len(tp)
    of_anomalous = start["anomalous"] + np.cumsum(change * has_defect[image])[last] / max(has_defect.sum(), 1)
    return {
        "all": of_all.clip(0, 1),  # sums of many small changes stray by some 1e-15
        "anomalous": of_anomalous.clip(0, 1),
        "pooled": _iou(pooled_tp, n_detected.sum() + last + 1, n_anomalous.sum()),
    }


def _count(tp: np.ndarray, n_detected: np.ndarray, images: np.ndarray, regions: np.ndarray) -> None:
    """Add detected scores to the counts by image, in place."""
    tp += np.bincount(images, regions, len(tp)).astype(np.int64)
    n_detected += np.bincount(images, minlength=len(tp))


def _overlap(found: np.ndarray, mask: np.ndarray, index: int) -> tuple[int, int, int]:
    """Return the numbers of pixels that are both, that are detected, and that are defective."""
    if found.shape != mask.shape:
        raise ValueError(f"image {index}: the mask has shape {mask.shape}, what is detected {found.shape}")
    return int(np.count_nonzero(found & mask)), int(np.count_nonzero(found)), int(np.count_nonzero(mask))


def _check_aggregation(aggregation: str) -> None:
    if aggregation not in AGGREGATIONS:
        raise ValueError(f"'aggregation' must be one of {', '.join(AGGREGATIONS)}, got {aggregation!r}")


def _as_thresholds(values: Any) -> np.ndarray:
    thresholds = as_array(values).astype(np.float64)
    if np.isnan(thresholds).any():
        raise ValueError("a threshold is NaN")
    return thresholds


def _warn_if_undefined(value: float) -> None:
    if np.isnan(value):
        warnings.warn("mIoU over anomalous images is undefined without one", stacklevel=3)


def _aggregate(tp: np.ndarray, n_detected: np.ndarray, n_anomalous: np.ndarray) -> dict[str, float]:
    iou = _iou(tp, n_detected, n_anomalous)
    has_defect = n_anomalous > 0
    return {
        "all": float(iou.mean()),
        "anomalous": float(iou[has_defect].mean()) if has_defect.any() else np.nan,
        "pooled": float(_iou(tp.sum(), n_detected.sum(), n_anomalous.sum())),
    }


def _iou(tp: np.ndarray, n_detected: np.ndarray, n_anomalous: np.ndarray) -> np.ndarray:
    return (tp + _EPS) / (n_detected + n_anomalous - tp + _EPS)

"""AUROC, average precision and AUPRO from one sort.

Definitions:

- AUROC: area under TPR against FPR with all distinct scores as thresholds, ties sharing one threshold (trapezoid).
- Average precision: sum over thresholds of (recall step) * precision, as scikit-learn defines it, no interpolation.
- AUPRO, as in the official evaluation of MVTec AD: PRO(t) is the mean over all ground-truth regions of the share of
  their pixels that score at least t; FPR counts the defect-free pixels of all images, good ones included. Area under
  PRO against FPR from (0, 0) up to the FPR limit, linear between thresholds also at the limit, divided by the limit.

Scores are float32, higher is more anomalous. Each score and its region share one 64-bit integer, so that a single
in-place sort orders both; sums are integers or float64. Memory: 8 bytes per pixel, and a constant.
"""

import warnings
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

__all__ = ["Areas", "RankedScores", "areas_under_curves", "image_areas"]

_CHUNK = 1 << 22


class Areas(NamedTuple):
    """Areas in [0, 1]; NaN where they are undefined."""

    auroc: float
    average_precision: float
    aupro: float


class RankedScores:
    """Collects scores with their regions; filled image by image, sorted once.

    Args:
        size: number of scores to come.
    """

    def __init__(self, size: int) -> None:
        self._packed = np.empty(size, dtype=np.uint64)
        self._filled = 0
        self._region_sizes: list[int] = []

    @property
    def n_regions(self) -> int:
        """Number of ground-truth regions so far."""
        return len(self._region_sizes)

    def add(self, scores: np.ndarray, regions: np.ndarray) -> None:
        """Adds the scores of one image.

        Args:
            scores: finite values of any shape.
            regions: integers of the same shape; 0 is normal, 1 to R are the image's own regions.

        Raises:
            ValueError: a score is NaN or infinite, or the shapes differ.
        """
        values = np.asarray(scores, dtype=np.float32).ravel()
        if not np.isfinite(values).all():
            raise ValueError("'scores' must be finite, got NaN or infinity")
        labels = np.asarray(regions).ravel()
        if labels.shape != values.shape:
            raise ValueError(f"'regions' must have as many entries as 'scores' ({values.size}), got {labels.size}")
        sizes = np.bincount(labels)[1:]
        shifted = np.where(labels > 0, labels + len(self._region_sizes), 0).astype(np.uint64)
        self._region_sizes += sizes.tolist()
        target = self._packed[self._filled : self._filled + values.size]
        np.bitwise_or(_descending_bits(values) << np.uint64(32), shifted, out=target)
        self._filled += values.size

    def sorted(self) -> tuple[np.ndarray, np.ndarray]:
        """Packed scores in descending order of the score, and the number of pixels of each region."""
        if self._filled != len(self._packed):
            raise ValueError(f"expected {len(self._packed)} scores, got {self._filled}")
        self._packed.sort()
        return self._packed, np.array(self._region_sizes, dtype=np.int64)


def areas_under_curves(ranked: RankedScores, fpr_limit: float = 0.3) -> Areas:
    """AUROC, average precision and AUPRO of all scores collected.

    Args:
        ranked: the scores; sorted by this call.
        fpr_limit: largest false positive rate that AUPRO integrates to, in (0, 1].

    Returns:
        The areas; all NaN, with a warning, where there is no normal or no anomalous score.
    """
    packed, region_sizes = ranked.sorted()
    n_positive = int(region_sizes.sum())
    n_negative = len(packed) - n_positive
    if not n_positive or not n_negative:
        warnings.warn("areas are undefined without both normal and anomalous scores", stacklevel=2)
        return Areas(float("nan"), float("nan"), float("nan"))
    weights = np.concatenate([[0.0], 1.0 / (np.maximum(region_sizes, 1) * len(region_sizes))])
    auroc = average_precision = aupro = 0.0
    for fp, tp, pro in _curves(packed, weights):
        auroc += float(np.sum(np.diff(fp) * (tp[1:] + tp[:-1]) / 2))
        average_precision += float(np.sum(np.diff(tp) * (tp[1:] / (tp[1:] + fp[1:]))))
        aupro += _area_up_to(fp / n_negative, pro, fpr_limit)
    return Areas(auroc / (n_negative * n_positive), average_precision / n_positive, aupro / fpr_limit)


def image_areas(scores: np.ndarray, labels: np.ndarray) -> Areas:
    """AUROC and average precision of image scores; every anomalous image is a region of one pixel.

    Args:
        scores: ``(N,)``.
        labels: ``(N,)``, 1 for anomalous.
    """
    ranked = RankedScores(len(scores))
    ranked.add(scores, np.cumsum(labels) * (np.asarray(labels) > 0))
    return areas_under_curves(ranked)


def _descending_bits(values: np.ndarray) -> np.ndarray:
    """32-bit keys, as uint64, whose ascending order is the descending order of the floats."""
    bits = (values + np.float32(0)).view(np.uint32)  # adding 0 turns -0.0 into 0.0
    ascending = np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31))
    return (~ascending).astype(np.uint64)


def _curves(packed: np.ndarray, weights: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Curves (false positives, true positives, PRO) at the distinct scores, in pieces; each starts where one ended."""
    carry_fp, carry_tp, carry_pro = 0, 0, 0.0
    start = 0
    while start < len(packed):
        stop = _end_of_tie(packed, min(start + _CHUNK, len(packed)))
        piece = packed[start:stop]
        regions = (piece & np.uint64(0xFFFFFFFF)).astype(np.int64)
        keys = piece >> np.uint64(32)
        last_of_tie = np.append(np.flatnonzero(keys[1:] != keys[:-1]), len(keys) - 1)
        tp = carry_tp + np.cumsum(regions > 0)[last_of_tie]
        fp = start + last_of_tie + 1 - tp
        pro = carry_pro + np.cumsum(weights[regions])[last_of_tie]
        yield np.append(carry_fp, fp), np.append(carry_tp, tp), np.append(carry_pro, pro)
        carry_fp, carry_tp, carry_pro = int(fp[-1]), int(tp[-1]), float(pro[-1])
        start = stop


def _end_of_tie(packed: np.ndarray, stop: int) -> int:
    """The first index at or after ``stop`` where a new score begins."""
    if stop >= len(packed):
        return len(packed)
    next_score = ((int(packed[stop - 1]) >> 32) + 1) << 32
    if next_score > np.iinfo(np.uint64).max:
        return len(packed)
    return stop + int(np.searchsorted(packed[stop:], np.uint64(next_score)))


def _area_up_to(x: np.ndarray, y: np.ndarray, limit: float) -> float:
    """Area under the polygon for ``x`` up to ``limit``, linear at the limit; ``x`` does not decrease."""
    if x[0] >= limit:
        return 0.0
    inside = int(np.searchsorted(x, limit, side="right"))
    area = float(np.sum(np.diff(x[:inside]) * (y[1:inside] + y[: inside - 1]) / 2))
    if inside < len(x):
        share = (limit - x[inside - 1]) / (x[inside] - x[inside - 1])
        y_limit = y[inside - 1] + share * (y[inside] - y[inside - 1])
        area += (limit - x[inside - 1]) * (y[inside - 1] + y_limit) / 2
    return area

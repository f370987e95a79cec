"""Error rates and F1 at a threshold: false alarms among normal, misses among anomalous images or pixels."""

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from nfbench.metrics._f1 import f1

__all__ = ["PixelCounts", "Rates", "image_rates", "pixel_counts"]


class Rates(NamedTuple):
    """Shares in [0, 1]; NaN without images or pixels of that kind, or without a threshold.

    Attributes:
        false_alarms: share of normal ones above the threshold.
        misses: share of anomalous ones not above it.
    """

    false_alarms: float
    misses: float


def image_rates(scores: np.ndarray, labels: np.ndarray, threshold: float) -> Rates:
    """Return the error rates of image scores ``(N,)`` with labels ``(N,)``, 1 for anomalous; NaN means no threshold."""
    alarms, anomalous = scores > threshold, labels > 0
    return _rates(threshold, alarms[~anomalous].sum(), alarms[anomalous].sum(), (~anomalous).sum(), anomalous.sum())


class PixelCounts(NamedTuple):
    """Pixels of each image ``(N,)`` at a threshold, which is NaN if there is none.

    Attributes:
        threshold: of the maps.
        false_alarms: normal pixels above it.
        found: anomalous pixels above it.
        normal: all normal pixels.
        anomalous: all anomalous pixels.
    """

    threshold: float
    false_alarms: np.ndarray
    found: np.ndarray
    normal: np.ndarray
    anomalous: np.ndarray

    @property
    def rates(self) -> Rates:
        """Return the error rates of the pixels of all images together."""
        return _rates(self.threshold, *(int(counts.sum()) for counts in self[1:]))

    def f1_by_image(self) -> np.ndarray:
        """Return F1 = 2 TP / (2 TP + FP + FN) of each image ``(N,)``; 1 for a normal image without a detection."""
        return f1(self.found, self.false_alarms, self.anomalous)

    def f1_pooled(self) -> float:
        """Return F1 of the pixels of all images together."""
        return float(f1(*(counts.sum() for counts in (self.found, self.false_alarms, self.anomalous))))


def pixel_counts(
    maps: Iterable[np.ndarray], masks: Iterable[np.ndarray], thresholds: Mapping[str, float]
) -> dict[str, PixelCounts]:
    """Count the pixels of each image, by name of the threshold.

    Args:
        maps: ``(H, W)`` each.
        masks: ``(H, W)`` bool each, of the same sizes; True is anomalous.
        thresholds: of the maps.
    """
    sizes: list[tuple[int, int]] = []
    counts: dict[str, list[tuple[int, int]]] = {name: [] for name in thresholds}
    for score_map, mask in zip(maps, masks, strict=True):
        anomalous = score_map[mask]
        sizes.append((mask.size - anomalous.size, anomalous.size))
        for name, threshold in thresholds.items():
            n_found = int(np.count_nonzero(anomalous > threshold))
            counts[name].append((int(np.count_nonzero(score_map > threshold)) - n_found, n_found))
    of_all = _columns(sizes)
    return {name: PixelCounts(threshold, *_columns(counts[name]), *of_all) for name, threshold in thresholds.items()}


def _columns(rows: list[tuple[int, int]]) -> np.ndarray:
    return np.array(rows, dtype=np.int64).reshape(-1, 2).T


def _rates(threshold: float, n_alarms: int, n_found: int, n_normal: int, n_anomalous: int) -> Rates:
    if math.isnan(threshold):
        return Rates(math.nan, math.nan)
    return Rates(
        float(n_alarms / n_normal) if n_normal else math.nan,
        float(1 - n_found / n_anomalous) if n_anomalous else math.nan,
    )

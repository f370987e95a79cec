"""Error rates of a threshold: false alarms among normal, misses among anomalous images or pixels."""

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

__all__ = ["Rates", "image_rates", "pixel_rates"]


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
    return _rates(threshold, alarms[~anomalous].sum(), (~anomalous).sum(), alarms[anomalous].sum(), anomalous.sum())


def pixel_rates(
    maps: Iterable[np.ndarray], masks: Iterable[np.ndarray], thresholds: Mapping[str, float]
) -> dict[str, Rates]:
    """Return the error rates of the pixels of all images together, by name of the threshold.

    Args:
        maps: ``(H, W)`` each.
        masks: ``(H, W)`` bool each, of the same sizes; True is anomalous.
        thresholds: of the maps.
    """
    n_normal = n_anomalous = 0
    alarms, found = dict.fromkeys(thresholds, 0), dict.fromkeys(thresholds, 0)
    for score_map, mask in zip(maps, masks, strict=True):
        anomalous = score_map[mask]
        n_normal, n_anomalous = n_normal + mask.size - anomalous.size, n_anomalous + anomalous.size
        for name, threshold in thresholds.items():
            n_found = int(np.count_nonzero(anomalous > threshold))
            found[name] += n_found
            alarms[name] += int(np.count_nonzero(score_map > threshold)) - n_found
    return {
        name: _rates(threshold, alarms[name], n_normal, found[name], n_anomalous)
        for name, threshold in thresholds.items()
    }


def _rates(threshold: float, n_alarms: int, n_normal: int, n_found: int, n_anomalous: int) -> Rates:
    if math.isnan(threshold):
        return Rates(math.nan, math.nan)
    return Rates(
        float(n_alarms / n_normal) if n_normal else math.nan,
        float(1 - n_found / n_anomalous) if n_anomalous else math.nan,
    )

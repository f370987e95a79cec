"""F1 = 2 TP / (2 TP + FP + FN) from counts, and of images at a threshold."""

import math
from typing import Any

import numpy as np

__all__ = ["f1", "image_f1"]


def f1(found: Any, false_alarms: Any, anomalous: Any) -> np.ndarray:
    """Return F1 from counts of any shape; 1 where nothing is anomalous and nothing is detected.

    Args:
        found: TP, anomalous ones that are detected.
        false_alarms: FP, normal ones that are detected.
        anomalous: TP + FN, all anomalous ones.
    """
    total = np.asarray(found) + false_alarms + anomalous
    return np.where(total == 0, 1.0, 2 * np.asarray(found) / np.maximum(total, 1))


def image_f1(scores: np.ndarray, labels: np.ndarray, threshold: float) -> float:
    """Return F1 of image scores ``(N,)`` above a threshold; NaN without anomalous images or without a threshold.

    Args:
        scores: higher is more anomalous.
        labels: ``(N,)``, 1 for anomalous.
        threshold: NaN means that there is none.
    """
    alarms, anomalous = scores > threshold, labels > 0
    if math.isnan(threshold) or not anomalous.any():
        return math.nan
    return float(f1((alarms & anomalous).sum(), (alarms & ~anomalous).sum(), anomalous.sum()))

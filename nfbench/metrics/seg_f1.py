"""SegF1: F1 = 2 TP / (2 TP + FP + FN) of pixels, at thresholds from normal images; see ``_thresholds``.

Three aggregations, each under its own name, which differ by tens of points for the same masks:

- ``seg_f1_pooled``: of the pixels of all images together; large defects decide. MVTec AD 2 does not say how it
  aggregates; others read its SegF1 in this way.
- ``seg_f1_anomalous``: mean over the images that have a defect; false alarms in good images do not count.
- ``seg_f1_all``: mean over all images, 1 for a good image without a detection; high if next to nothing is detected.
"""

from typing import TYPE_CHECKING

from nfbench.metrics import BY_THRESHOLD, ORIGINAL_SIZE, Metric

if TYPE_CHECKING:
    import numpy as np

    from nfbench.scoring.evaluate import ScoredSet

__all__ = ["METRICS"]


def _pooled(test: "ScoredSet", rule: str) -> float:
    return test.pixel_counts(rule).f1_pooled() if test.labels.any() else float("nan")


def _anomalous(test: "ScoredSet", rule: str) -> float:
    found = test.pixel_counts(rule).f1_by_image()[test.labels > 0]
    return float(found.mean()) if found.size else float("nan")


def _all(test: "ScoredSet", rule: str) -> float:
    return float(_by_image(test, rule).mean()) if test.labels.any() else float("nan")


def _by_image(test: "ScoredSet", rule: str) -> "np.ndarray":
    return test.pixel_counts(rule).f1_by_image()


_WAYS = {
    "pooled": ("all pixels together", _pooled, None),
    "anomalous": ("mean over anomalous images", _anomalous, None),
    "all": ("mean over all images", _all, _by_image),
}

METRICS = [
    Metric(
        f"seg_f1_{name}",
        f"SegF1 at the conformal threshold for 5 %, {title}",
        value,
        needs_masks=True,
        needs_normal=True,
        variants=BY_THRESHOLD,
        by_image=by_image,
        threshold=lambda test, rule: test.pixel_threshold(rule),
        size=ORIGINAL_SIZE,
    )
    for name, (title, value, by_image) in _WAYS.items()
]

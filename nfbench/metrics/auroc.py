"""AUROC: area under the true against the false positive rate, trapezoidal; equal scores share a threshold."""

from nfbench.metrics import BY_RULE, ORIGINAL_SIZE, Metric

__all__ = ["METRICS"]

METRICS = [
    Metric(
        "image_auroc",
        "image AUROC",
        lambda test, rule: test.image_areas[rule].auroc,
        variants=BY_RULE,
        headline=True,
    ),
    Metric(
        "pixel_auroc",
        "pixel AUROC",
        lambda test, _: test.pixel_areas.auroc,
        needs_masks=True,
        size=ORIGINAL_SIZE,
        headline=True,
    ),
]

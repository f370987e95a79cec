"""Average precision: sum over thresholds of (recall step) * precision, not interpolated."""

from nfbench.metrics import BY_RULE, ORIGINAL_SIZE, Metric

__all__ = ["METRICS"]

METRICS = [
    Metric("image_ap", "image AP", lambda test, rule: test.image_areas[rule].average_precision, variants=BY_RULE),
    Metric(
        "pixel_ap",
        "pixel AP",
        lambda test, _: test.pixel_areas.average_precision,
        needs_masks=True,
        size=ORIGINAL_SIZE,
    ),
]

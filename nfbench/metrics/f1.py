"""F1 = 2 TP / (2 TP + FP + FN) at the threshold where it is largest on the test set: an upper bound."""

from nfbench.metrics import BY_RULE, ORIGINAL_SIZE, Metric

__all__ = ["METRICS"]

METRICS = [
    Metric(
        "image_f1",
        "image F1 at the best threshold",
        lambda test, rule: test.image_areas[rule].f1,
        variants=BY_RULE,
        threshold=lambda test, rule: test.image_areas[rule].f1_threshold,
    ),
    Metric(
        "pixel_f1",
        "pixel F1 at the best threshold",
        lambda test, _: test.pixel_areas.f1,
        needs_masks=True,
        threshold=lambda test, _: test.pixel_areas.f1_threshold,
        size=ORIGINAL_SIZE,
    ),
]

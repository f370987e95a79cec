"""Detections at NFA < 1e-6, one false alarm in a million images, as U-Flow's paper reports next to NFA < 1."""

from nfbench.metrics import BY_AGGREGATION, MAP_SIZE, ORIGINAL_SIZE, OVER_IMAGES, PER_100_IMAGES, Metric

__all__ = ["METRICS"]

_LOG_NFA = -6.0

METRICS = [
    Metric(
        "miou_nfa_1e6",
        "mean IoU of the a contrario mask, NFA < 1e-6",
        lambda test, over: test.iou("nfa", _LOG_NFA)[over],
        needs_masks=True,
        needs_latents=True,
        variants=BY_AGGREGATION,
        size=ORIGINAL_SIZE,
        note=OVER_IMAGES,
        short="NFA < 1e-6",
    ),
    Metric(
        "false_alarms_nfa_1e6",
        "detected regions per 100 normal test images, NFA < 1e-6",
        lambda test, _: test.per_normal_image(test.detections("nfa", _LOG_NFA)),
        unit=PER_100_IMAGES,
        higher_is_better=False,
        needs_latents=True,
        size=MAP_SIZE,
    ),
]

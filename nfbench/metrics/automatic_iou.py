"""Mean IoU at thresholds that are chosen without anomalies; see ``_iou``."""

from nfbench.metrics import BY_AGGREGATION, ORIGINAL_SIZE, OVER_IMAGES, Metric

__all__ = ["METRICS"]


def _at(detector: str, name: str, title: str, *, log_nfa: float = 0.0, short: str = "") -> Metric:
    """Return the mean IoU of a detector of ``ScoredSet.detections``."""
    return Metric(
        name,
        f"mean IoU of {title}",
        lambda test, over: test.iou(detector, log_nfa)[over],
        needs_masks=True,
        needs_normal=detector == "fair",
        needs_latents=detector != "fair",
        variants=BY_AGGREGATION,
        size=ORIGINAL_SIZE,
        note=OVER_IMAGES,
        short=short,
    )


METRICS = [
    _at("fair", "miou_fair", "the anomaly map at one false positive pixel per normal image"),
    _at("nfa", "miou_nfa", "the a contrario mask, NFA < 1", short="NFA < 1"),
    _at(
        "nfa_guard",
        "miou_nfa_guard",
        "the a contrario mask, NFA < 1, with the Chernoff guard",
        short="NFA < 1, guard",
    ),
    _at("nfa", "miou_nfa_1e6", "the a contrario mask, NFA < 1e-6", log_nfa=-6.0, short="NFA < 1e-6"),
]

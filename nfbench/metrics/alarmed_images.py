"""Share of normal test images with a detected region, at thresholds that are chosen without anomalies."""

from nfbench.metrics import MAP_SIZE, Metric

__all__ = ["METRICS"]


def _at(name: str, title: str, detector: str, log_nfa: float = 0.0) -> Metric:
    """Return the alarmed images of a detector of ``ScoredSet.detections``."""
    return Metric(
        f"alarmed_{name}",
        f"normal test images with a false alarm, {title}",
        lambda test, _: test.per_normal_image(test.detections(detector, log_nfa) > 0),
        higher_is_better=False,
        needs_normal=detector == "fair",
        needs_latents=detector != "fair",
        size=MAP_SIZE,
        short=title,
    )


METRICS = [
    _at("fair", "at one false positive pixel per normal image", "fair"),
    _at("nfa", "NFA < 1", "nfa"),
    _at("nfa_1e6", "NFA < 1e-6", "nfa", -6.0),
]

"""Detected regions per normal test image, at thresholds that are chosen without anomalies."""

from nfbench.metrics import MAP_SIZE, PER_100_IMAGES, Metric

__all__ = ["METRICS"]


def _at(name: str, title: str, detector: str, log_nfa: float = 0.0) -> Metric:
    """Return the false alarms of a detector of ``ScoredSet.detections``."""
    return Metric(
        f"false_alarms_{name}",
        f"detected regions per 100 normal test images, {title}",
        lambda test, _: test.per_normal_image(test.detections(detector, log_nfa)),
        unit=PER_100_IMAGES,
        higher_is_better=False,
        needs_normal=detector == "fair",
        needs_latents=detector != "fair",
        size=MAP_SIZE,
    )


METRICS = [
    _at("fair", "at one false positive pixel per normal image", "fair"),
    _at("nfa", "NFA < 1", "nfa"),
    _at("nfa_guard", "NFA < 1, with the Chernoff guard", "nfa_guard"),
    _at("nfa_1e6", "NFA < 1e-6", "nfa", -6.0),
]

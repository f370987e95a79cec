"""Detected regions per normal test image, at thresholds that are chosen without anomalies."""

from typing import TYPE_CHECKING

from nfbench.metrics import MAP_SIZE, PER_100_IMAGES, Metric

if TYPE_CHECKING:
    from nfbench.scoring.evaluate import ScoredSet

__all__ = ["METRICS"]


def _at(detector: str, title: str) -> Metric:
    """False alarms of a detector of ``ScoredSet.detections``."""

    def value(test: "ScoredSet", _: str) -> float:
        counts = test.detections(detector)[test.labels == 0]
        return float(counts.mean()) if counts.size else float("nan")

    return Metric(
        f"false_alarms_{detector}",
        f"detected regions per 100 normal test images, {title}",
        value,
        unit=PER_100_IMAGES,
        higher_is_better=False,
        needs_normal=detector == "fair",
        needs_latents=detector != "fair",
        size=MAP_SIZE,
    )


METRICS = [
    _at("fair", "at one false positive pixel per normal image"),
    _at("nfa", "NFA < 1"),
    _at("nfa_guard", "NFA < 1, with the Chernoff guard"),
]

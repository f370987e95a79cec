"""AUROC of the samples of Real-IAD: a part is as anomalous as its most anomalous view; see ``_samples``.

A defective part has views that do not show the defect and are normal images, so this differs from image AUROC.
"""

from typing import TYPE_CHECKING

from nfbench.metrics import BY_RULE, Metric

if TYPE_CHECKING:
    from nfbench.scoring.evaluate import ScoredSet

__all__ = ["METRICS"]


def _area(test: "ScoredSet", rule: str) -> float:
    """Return the AUROC of the samples; NaN without both kinds of them."""
    from nfbench.metrics._ranking import UNDEFINED, image_areas
    from nfbench.metrics._samples import over_samples

    images = [entry.image for entry in test.truth.entries]
    scores, labels = over_samples(images, test.images[rule], test.labels)
    return (image_areas(scores, labels) if len(set(labels.tolist())) == 2 else UNDEFINED).auroc


METRICS = [
    Metric(
        "sample_auroc",
        "sample AUROC",
        _area,
        variants=BY_RULE,
        needs_samples=True,
        note="scores and labels of a part are the maxima over its views",
    )
]

"""Image AUROC of MVTec LOCO: logical and structural anomalies, each with all normal images, and their mean."""

import math
from functools import partial
from typing import TYPE_CHECKING

from nfbench.metrics import Metric
from nfbench.metrics._kinds import kinds_of, with_normal

if TYPE_CHECKING:
    from nfbench.scoring.evaluate import ScoredSet

__all__ = ["METRICS"]

_KINDS = {"logical": "logical_anomalies", "structural": "structural_anomalies"}


def _mean_area(test: "ScoredSet", kind: str) -> float:
    """Return the AUROC of one kind; for ``mean`` the mean over the kinds that the test set has."""
    kinds = [name for name in kinds_of(test) if kind == "mean" or name == _KINDS[kind]]
    areas = [test.once(f"image_auroc_kinds {name}", partial(_area, test, name)) for name in kinds]
    return sum(areas) / len(areas) if areas else math.nan


def _area(test: "ScoredSet", defect: str) -> float:
    """Return the AUROC over the normal images and the anomalous ones of one kind; NaN without normal images."""
    from nfbench.metrics._ranking import UNDEFINED, image_areas

    chosen = with_normal(test, defect)
    labels = test.labels[chosen]
    return (image_areas(test.images["paper"][chosen], labels) if (labels == 0).any() else UNDEFINED).auroc


METRICS = [
    Metric(
        "image_auroc_kinds",
        "image AUROC, mean over logical and structural anomalies",
        _mean_area,
        variants={"mean": "", "logical": "logical anomalies alone", "structural": "structural anomalies alone"},
        needs_channels=True,
        note="each kind of anomalies with all normal images",
        short="mean of kinds",
    )
]

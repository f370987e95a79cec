"""Kinds of anomalies of a test set, each measured together with all normal images."""

from itertools import compress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nfbench.scoring.evaluate import ScoredSet

__all__ = ["kinds_of", "with_normal"]


def kinds_of(test: "ScoredSet") -> list[str]:
    """Return the defects of the anomalous images, in their order."""
    return list(dict.fromkeys(entry.defect for entry in compress(test.truth.entries, test.labels)))


def with_normal(test: "ScoredSet", kind: str) -> list[bool]:
    """Return for each image whether it is normal or of this kind."""
    return [not entry.label or entry.defect == kind for entry in test.truth.entries]

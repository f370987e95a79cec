"""Samples of Real-IAD: the views of one part, recognized by the names of their files."""

import re
from collections.abc import Iterable, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

__all__ = ["have_samples", "over_samples", "sample_of"]

_NAME = re.compile(r"(?P<sample>[A-Za-z][A-Za-z0-9_]*_[0-9]{4}_[A-Z][A-Z_]*[A-Z])_C[0-9]_")
"""Object, number of the part and class, then the view. The public evaluation code takes the same key."""


def sample_of(image: str) -> str:
    """Return the sample of an image by its file name, such as ``pcb_0007_NG_AK``; empty if the name has none."""
    found = _NAME.match(PurePath(image).name)
    return found["sample"] if found else ""


def have_samples(images: Iterable[str]) -> bool:
    """Whether there are images and each file name states its sample."""
    found = [sample_of(image) for image in images]
    return bool(found) and all(found)


def over_samples(images: Sequence[str], scores: Any, labels: Any) -> "tuple[np.ndarray, np.ndarray]":
    """Take the maximum of scores and of labels over the views of each sample.

    Args:
        images: ``(N,)`` paths, each with a sample in its file name.
        scores: ``(N,)``; higher is more anomalous.
        labels: ``(N,)``, 0 or 1.

    Returns:
        Scores ``(S,)`` and labels ``(S,)`` of the samples, sorted by name.
    """
    import numpy as np

    _, sample = np.unique([sample_of(image) for image in images], return_inverse=True)
    scores, labels = np.asarray(scores), np.asarray(labels)
    best = np.full(sample.max() + 1, -np.inf, dtype=np.float64)
    np.maximum.at(best, sample, scores)
    anomalous = np.zeros(len(best), dtype=labels.dtype)
    np.maximum.at(anomalous, sample, labels)
    return best, anomalous

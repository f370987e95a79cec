"""Exact areas over the false positive rate F, up to a bound, at all thresholds.

The curves of AUPIMO and sPRO have a point (F, recall) at each distinct score, in falling order, and are linear between
points; equal scores share one point. F changes at normal scores alone. Of a normal score v, the segment that ends at v
starts at the recall above v and ends at the recall at or above v. Both are means over anomalous pixels, so the area is
a mean over anomalous pixels too: a pixel adds the width of each segment whose normal score it exceeds, and a part of
the width where it equals that score. Only the largest normal scores are needed, those down to the bound of F.
"""

import math
from typing import NamedTuple

import numpy as np

__all__ = ["FalsePositives", "Levels"]

_ROUNDING = 1e-9


class Levels(NamedTuple):
    """Distinct normal scores in ascending order, and the false positive rate at or above each of them.

    Attributes:
        scores: ``(M,)``, float64.
        rates: ``(M,)``, descending.
    """

    scores: np.ndarray
    rates: np.ndarray

    def areas(self, pixels: np.ndarray, upper: float) -> np.ndarray:
        """Return the area over F in [0, upper] that each anomalous pixel adds to the sum of recalls.

        Args:
            pixels: scores of any shape.
            upper: largest F; the levels must reach it.

        Returns:
            Float64 of the same shape; ``upper`` for scores above all levels.
        """
        starts = np.append(self.rates[1:], 0.0)
        ends = self.rates.clip(max=upper)
        widths = (ends - starts).clip(min=0)
        return self._sums(pixels, widths, _share((starts + ends) / 2, starts, self.rates))

    def log_areas(self, pixels: np.ndarray, lower: float, upper: float) -> np.ndarray:
        """As ``areas``, over ln F in [ln lower, ln upper].

        Below the smallest F, recall is constant: that of the pixels above all levels.
        """
        rates, bounds = np.log(self.rates), (math.log(lower), math.log(upper))
        starts = np.append(rates[1:], -np.inf)
        left, right = starts.clip(*bounds), rates.clip(*bounds)
        return self._sums(pixels, right - left, _share((left + right) / 2, starts, rates))

    def _sums(self, pixels: np.ndarray, widths: np.ndarray, shares: np.ndarray) -> np.ndarray:
        """Widths of all levels below each pixel, and the share of the width of a level that equals it."""
        below = np.append(0.0, np.cumsum(widths))
        place = np.searchsorted(self.scores, pixels, side="left")
        found = below[place]
        inside = np.minimum(place, len(self.scores) - 1)
        return found + (self.scores[inside] == pixels) * (shares * widths)[inside]


class FalsePositives:
    """Collect the normal scores with the largest false positive rates up to a bound, image by image.

    Args:
        upper: largest rate that is needed.

    Attributes:
        floor: lower scores are not needed, as far as is known.
    """

    def __init__(self, upper: float) -> None:
        self._upper = upper
        self.floor = -np.inf
        self._scores = np.empty(0)
        self._weights = np.empty(0)

    def add(self, scores: np.ndarray, weight: float) -> None:
        """Add finite normal scores of any shape; each adds ``weight`` to F. All weights must add up to 1."""
        found = scores[scores >= self.floor]
        count = math.floor(self._upper / weight * (1 + _ROUNDING)) + 1  # that many exceed the bound alone
        if count < found.size:
            found = found[found >= np.partition(found, -count)[-count]]
        merged = np.concatenate([self._scores, found.astype(np.float64)])
        weights = np.concatenate([self._weights, np.full(found.size, weight)])
        order = np.argsort(-merged, kind="stable")
        merged, weights = merged[order], weights[order]
        passed = int(np.searchsorted(np.cumsum(weights), self._upper * (1 + _ROUNDING)))
        if passed < merged.size:
            self.floor = float(merged[passed])
        kept = int(np.searchsorted(-merged, -self.floor, side="right"))
        self._scores, self._weights = merged[:kept], weights[:kept]

    def levels(self) -> Levels:
        """Return the collected scores as levels.

        Raises:
            ValueError: nothing was added.
        """
        if not self._scores.size:
            raise ValueError("the false positive rate needs at least one normal score")
        last = np.append(np.flatnonzero(np.diff(self._scores)), self._scores.size - 1)
        return Levels(self._scores[last][::-1], np.cumsum(self._weights)[last][::-1])


def _share(middle: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Place of ``middle`` between two ends, 0 where the start is minus infinity."""
    with np.errstate(invalid="ignore"):
        found = (middle - start) / (end - start)
    return np.where(np.isfinite(start), found, 0.0)

"""The largest pixels of maps of normal images: all that a threshold needs of them."""

from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np

__all__ = ["UpperTail", "largest"]

_SHARE = 1000
"""One of this many pixels is kept, or one per image where that is more."""


@dataclass(frozen=True)
class UpperTail:
    """The largest pixels of the maps of a set of images, gathered batch by batch.

    Attributes:
        n_images: number of images of the whole set.
        n_pixels: number of pixels so far.
        values: the largest of them, descending, float32.
    """

    n_images: int
    n_pixels: int = 0
    values: np.ndarray = field(default_factory=lambda: np.empty(0, np.float32))

    def add(self, maps: np.ndarray) -> Self:
        """The tail with further maps ``(B, H, W)``, all of one size."""
        count = max(self.n_images, self.n_images * maps[0].size // _SHARE) + 2  # a quantile lies between two values
        pixels = maps.ravel()
        if self.values.size >= count:
            pixels = pixels[pixels > self.values[-1]]
        values = np.concatenate([self.values[::-1], np.sort(largest(pixels, count))])
        values.sort(kind="stable")  # which merges two sorted parts
        return replace(self, n_pixels=self.n_pixels + maps.size, values=values[-count:][::-1])


def largest(values: np.ndarray, count: int) -> np.ndarray:
    """The ``count`` largest values ``(N,)``, all where there are fewer, in no order."""
    return np.partition(values, -count)[-count:] if count < values.size else values

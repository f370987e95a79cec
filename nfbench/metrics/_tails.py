"""Statistics for thresholds: scores of normal images, and the largest pixels of their maps."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Self

import numpy as np

__all__ = ["NormalScores", "UpperTail", "largest"]

_SHARE = 1000
"""Keep one of this many pixels, or one per image if that is more."""


@dataclass(frozen=True)
class UpperTail:
    """The largest pixels of a set of maps, collected batch by batch.

    Attributes:
        n_images: number of images of the whole set.
        n_pixels: number of pixels so far.
        values: the largest of them, descending, float32.
    """

    n_images: int
    n_pixels: int = 0
    values: np.ndarray = field(default_factory=lambda: np.empty(0, np.float32))

    def add(self, maps: np.ndarray) -> Self:
        """Return the tail with further maps ``(B, H, W)``, all of one size."""
        count = max(self.n_images, self.n_images * maps[0].size // _SHARE) + 2  # a quantile lies between two values
        pixels = maps.ravel()
        if self.values.size >= count:
            pixels = pixels[pixels > self.values[-1]]
        values = np.concatenate([self.values[::-1], np.sort(largest(pixels, count))])
        values.sort(kind="stable")  # the stable sort merges two sorted parts
        return replace(self, n_pixels=self.n_pixels + maps.size, values=values[-count:][::-1])


def largest(values: np.ndarray, count: int) -> np.ndarray:
    """Return the ``count`` largest values of ``(N,)``, or all if there are fewer, unsorted."""
    return np.partition(values, -count)[-count:] if count < values.size else values


class Pixels(NamedTuple):
    """Number of pixels, their mean, and the sum of squared deviations from the mean."""

    number: int = 0
    mean: float = 0.0
    deviations: float = 0.0

    @property
    def std(self) -> float:
        """Return the standard deviation, NaN without pixels."""
        return math.sqrt(self.deviations / self.number) if self.number else math.nan

    def add(self, values: np.ndarray) -> "Pixels":
        """Return the moments with further pixels of any shape (Chan et al., 1983)."""
        added, mean = values.size, float(values.mean(dtype=np.float64))
        deviations = float(np.square(values.astype(np.float64) - mean).sum())
        number, step = self.number + added, mean - self.mean
        return Pixels(
            number,
            self.mean + step * added / number,
            self.deviations + deviations + step**2 * self.number * added / number,
        )


@dataclass(frozen=True)
class NormalScores:
    """Statistics of ``n`` normal images for thresholds, collected batch by batch.

    Attributes:
        tail: the largest pixels of all their maps; empty for methods without maps.
        rows: numbers of the images ``(n,)``.
        images: image scores by the rule of the method's paper ``(n,)``, float32.
        largest: the largest pixel of each map ``(n,)``, float32; empty without maps.
        pixels: of all maps together.
    """

    tail: UpperTail
    rows: np.ndarray
    images: np.ndarray
    largest: np.ndarray
    pixels: Pixels

    @classmethod
    def of(cls, n_images: int) -> Self:
        """Return empty statistics for this total number of images."""
        none = np.empty(0, np.float32)
        return cls(UpperTail(n_images), np.empty(0, np.int64), none, none, Pixels())

    @classmethod
    def of_maps(cls, maps: np.ndarray) -> Self:
        """Return the statistics of maps ``(n, H, W)`` whose largest pixels are the image scores."""
        return cls.of(len(maps)).add(np.arange(len(maps)), maps.reshape(len(maps), -1).max(1), maps)

    def add(self, rows: Any, images: np.ndarray, maps: np.ndarray | None) -> Self:
        """Return the statistics with further images: numbers and scores ``(B,)``, maps ``(B, H, W)``."""
        more = replace(self, rows=np.append(self.rows, rows), images=np.append(self.images, images))
        if maps is None:
            return more
        largest = maps.reshape(len(maps), -1).max(1)
        return replace(
            more,
            tail=self.tail.add(maps),
            largest=np.append(self.largest, largest),
            pixels=self.pixels.add(maps),
        )

    def arrays(self) -> dict[str, np.ndarray]:
        """Return all arrays by name, for files; numbers as ``(2,)`` and ``(3,)``."""
        return {
            "tail": self.tail.values,
            "counts": np.array([self.tail.n_images, self.tail.n_pixels]),
            "rows": self.rows,
            "images": self.images,
            "largest": self.largest,
            "pixels": np.array(self.pixels, dtype=np.float64),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Self:
        """Inverse of ``arrays``."""
        number, mean, deviations = arrays["pixels"].tolist()
        n_images, n_pixels = arrays["counts"].tolist()
        tail = UpperTail(n_images, n_pixels, arrays["tail"])
        pixels = Pixels(int(number), mean, deviations)
        return cls(tail, arrays["rows"], arrays["images"], arrays["largest"], pixels)

    def sorted(self) -> Self:
        """Return the statistics sorted by the images' numbers."""
        order = np.argsort(self.rows, kind="stable")
        largest = self.largest[order] if self.has_maps else self.largest
        return replace(self, rows=self.rows[order], images=self.images[order], largest=largest)

    @property
    def has_maps(self) -> bool:
        """Return whether the method makes maps."""
        return self.pixels.number > 0

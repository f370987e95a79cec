"""Scores of normal images, and the largest pixels of their maps: all that thresholds need of them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Self

import numpy as np

__all__ = ["NormalScores", "UpperTail", "largest"]

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


class Pixels(NamedTuple):
    """Number of pixels, their mean, and the sum of their squared deviations from it."""

    number: int = 0
    mean: float = 0.0
    deviations: float = 0.0

    @property
    def std(self) -> float:
        """Standard deviation, NaN without pixels."""
        return math.sqrt(self.deviations / self.number) if self.number else math.nan

    def add(self, values: np.ndarray) -> "Pixels":
        """With further pixels of any shape (Chan et al., 1983)."""
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
    """Statistics of ``n`` normal images for thresholds, gathered batch by batch.

    Attributes:
        tail: the largest pixels of their maps together; empty of methods without maps.
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
        """Of no image yet, for this number of images in all."""
        none = np.empty(0, np.float32)
        return cls(UpperTail(n_images), np.empty(0, np.int64), none, none, Pixels())

    @classmethod
    def of_maps(cls, maps: np.ndarray) -> Self:
        """Of maps ``(n, H, W)`` whose largest pixels are the image scores."""
        return cls.of(len(maps)).add(np.arange(len(maps)), maps.reshape(len(maps), -1).max(1), maps)

    def add(self, rows: Any, images: np.ndarray, maps: np.ndarray | None) -> Self:
        """With further images: their numbers and scores ``(B,)`` and maps ``(B, H, W)``, all of one size."""
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
        """All of it by name, for files; numbers as ``(2,)`` and ``(3,)``."""
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
        """In the order of the images' numbers."""
        order = np.argsort(self.rows, kind="stable")
        largest = self.largest[order] if self.has_maps else self.largest
        return replace(self, rows=self.rows[order], images=self.images[order], largest=largest)

    @property
    def has_maps(self) -> bool:
        """Whether the method makes maps."""
        return self.pixels.number > 0

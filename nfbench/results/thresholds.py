"""Scores of normal images that the thresholds of a run come from, in ``thresholds.json``."""

import math
from collections.abc import Sequence
from typing import Self

import numpy as np
from pydantic import NonNegativeFloat, PositiveInt

from nfbench.core.record import Record
from nfbench.datasets._manifest import Entry
from nfbench.metrics import ThresholdSource
from nfbench.metrics._tails import NormalScores
from nfbench.metrics._thresholds import contour_threshold

__all__ = ["THRESHOLDS", "NormalImage", "PixelsRecord", "ThresholdsRecord"]

THRESHOLDS = "thresholds.json"
"""Name of the file in the folder of a run."""


class NormalImage(Record):
    """A normal image used for thresholds.

    Attributes:
        image: path of the image.
        sha256: hash of its file.
        score: image score by the rule of the method's paper.
        largest: the largest pixel of its map; None without maps.
    """

    image: str
    sha256: str
    score: float
    largest: float | None


class PixelsRecord(Record):
    """Statistics of all pixels of these images' maps.

    Attributes:
        mean, std: over all pixels.
        quantile: the 99.9 % quantile.
        size: height and width of the maps.
    """

    mean: float
    std: NonNegativeFloat
    quantile: float
    size: tuple[PositiveInt, PositiveInt]


class ThresholdsRecord(Record):
    """Scores of normal images after the last epoch.

    Attributes:
        source: which images these are.
        images: the images, in the order of the manifest.
        pixels: statistics of the pixels of all maps; None without maps.
    """

    source: ThresholdSource
    images: list[NormalImage]
    pixels: PixelsRecord | None

    @classmethod
    def of(
        cls, source: ThresholdSource, normal: NormalScores, entries: Sequence[Entry], maps: np.ndarray | None
    ) -> Self:
        """Build the record from the scores of normal images.

        Args:
            source: which images these are.
            normal: their scores.
            entries: all normal images of the manifest; ``normal.rows`` are their numbers.
            maps: maps of the test images ``(N, H, W)``; None without maps.
        """
        normal = normal.sorted()
        largest: list[float | None] = normal.largest.tolist() if normal.has_maps else [None] * len(normal.rows)
        images = [
            NormalImage(image=entries[row].image, sha256=entries[row].sha256, score=score, largest=most)
            for row, score, most in zip(normal.rows.tolist(), normal.images.tolist(), largest, strict=True)
        ]
        pixels = None
        if maps is not None:
            quantile = contour_threshold(normal.tail)
            pixels = PixelsRecord(
                mean=normal.pixels.mean, std=normal.pixels.std, quantile=quantile, size=maps.shape[1:]
            )
        return cls(source=source, images=images, pixels=pixels)

    @property
    def scores(self) -> np.ndarray:
        """Image scores ``(n,)``, float32 as the method gives them."""
        return np.array([one.score for one in self.images], dtype=np.float32)

    @property
    def largest(self) -> np.ndarray:
        """Largest pixels of the maps ``(n,)``, float32; NaN without maps."""
        return np.array([math.nan if one.largest is None else one.largest for one in self.images], dtype=np.float32)

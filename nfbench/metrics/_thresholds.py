"""Thresholds from normal images that the model was not fitted to, without any anomaly.

A score above its threshold is an alarm. With ``n`` normal images of scores ``s_1 ... s_n``, sorted ``s_(1) <= ...``:

- ``conformal``: ``s_(k)`` with ``k = ceil((n + 1)(1 - alpha))``, infinite where ``k > n``. If these images and a future
  normal one are exchangeable, its chance of an alarm is at most ``alpha``, whatever the model and the distribution, and
  without ties ``(n + 1 - k) / (n + 1)`` (Vovk et al., 2005). The same as ``p <= alpha`` with the p-value
  ``p = (1 + #{s_i >= s}) / (n + 1)``.
- ``sigma``: mean plus so many standard deviations. No promise: its rate depends on the tail of the scores.
- ``quantile``: the empirical quantile, linear between two scores. No promise for few images.

Of pixels, ``sigma`` and ``quantile`` take all pixels together. ``conformal`` takes the largest pixel of each image,
since images are exchangeable and pixels are not: at most ``alpha`` is the chance that a normal image has one above it.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, NamedTuple, Self

import numpy as np

from nfbench.metrics._inputs import as_array, check_finite
from nfbench.metrics._tails import UpperTail

__all__ = [
    "ALPHA",
    "IMAGE_QUANTILE",
    "SIGMAS",
    "NormalScores",
    "conformal_rank",
    "conformal_threshold",
    "contour_threshold",
    "image_threshold",
    "p_values",
    "pixel_threshold",
]


ALPHA = 0.05
SIGMAS = 3.0
IMAGE_QUANTILE = 0.95
_CONTOUR_SHARE = 0.001


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
    """What thresholds need of ``n`` normal images, gathered batch by batch.

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
        """Of no image yet, of so many in all."""
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


def conformal_rank(n: int, alpha: float) -> int:
    """``k = ceil((n + 1)(1 - alpha))``, in exact arithmetic on ``alpha`` as it is written in decimals."""
    return math.ceil((n + 1) * (1 - Fraction(repr(alpha))))


def conformal_threshold(scores: Any, alpha: float = ALPHA) -> float:
    """The conformal threshold of normal scores ``(n,)``; infinite where ``n < 1 / alpha - 1``.

    Raises:
        ValueError: ``alpha`` is not between 0 and 1, or a score is NaN or infinite.
    """
    scores = _checked(scores)
    if not 0 < alpha < 1:
        raise ValueError(f"'alpha' must be between 0 and 1, got {alpha:g}")
    k = conformal_rank(len(scores), alpha)
    return math.inf if k > len(scores) else float(np.sort(scores)[k - 1])


def p_values(normal: Any, scores: Any) -> np.ndarray:
    """P-values of ``scores`` ``(N,)``, given those of normal images ``(n,)``."""
    normal, scores = _checked(normal), _checked(scores)
    above = len(normal) - np.searchsorted(np.sort(normal), scores, side="left")
    return (1 + above) / (len(normal) + 1)


def image_threshold(
    scores: Any, rule: str, alpha: float = ALPHA, sigmas: float = SIGMAS, quantile: float = IMAGE_QUANTILE
) -> float:
    """The threshold of image scores by a rule, from normal scores ``(n,)`` of at least one image."""
    if rule == "conformal":
        return conformal_threshold(scores, alpha)
    values = _checked(scores)
    return float(values.mean() + sigmas * values.std()) if rule == "sigma" else float(np.quantile(values, quantile))


def pixel_threshold(normal: NormalScores, rule: str, alpha: float = ALPHA, sigmas: float = SIGMAS) -> float:
    """The threshold of maps by a rule; ``quantile`` is that of ``contour_threshold``."""
    if rule == "conformal":
        return conformal_threshold(normal.largest, alpha)
    return normal.pixels.mean + sigmas * normal.pixels.std if rule == "sigma" else contour_threshold(normal.tail)


def contour_threshold(tail: UpperTail) -> float:
    """Threshold that one in a thousand pixels of maps of normal images exceeds; figures draw contours."""
    rank = _CONTOUR_SHARE * (tail.n_pixels - 1)
    above = int(rank)
    upper, lower = tail.values[above : above + 2].astype(float)[[0, -1]]  # as np.quantile, between two values
    return float(upper + (rank - above) * (lower - upper))


def _checked(scores: Any) -> np.ndarray:
    """Scores ``(N,)`` as float64."""
    values = as_array(scores).astype(np.float64)
    check_finite(values, "scores")
    return values.ravel()

"""Thresholds from normal images that the model was not fitted to, without any anomaly.

A score above its threshold is an alarm. With ``n`` normal images of scores ``s_1 ... s_n``, sorted ``s_(1) <= ...``:

- ``conformal``: ``s_(k)`` with ``k = ceil((n + 1)(1 - alpha))``, infinite where ``k > n``. If these images and a future
  normal one are exchangeable, its chance of an alarm is at most ``alpha``, for any model and distribution, and
  without ties ``(n + 1 - k) / (n + 1)`` (Vovk et al., 2005). The same as ``p <= alpha`` with the p-value
  ``p = (1 + #{s_i >= s}) / (n + 1)``.
- ``sigma``: mean plus some standard deviations. No guarantee: its rate depends on the tail of the scores.
- ``quantile``: the empirical quantile, linear between two scores. No guarantee for few images.

For pixels, ``sigma`` and ``quantile`` use all pixels together. ``conformal`` takes the largest pixel of each image,
since images are exchangeable and pixels are not: at most ``alpha`` is the chance that a normal image has one above it.
"""

import math
from fractions import Fraction
from typing import Any

import numpy as np

from nfbench.metrics._inputs import as_array, check_finite
from nfbench.metrics._tails import NormalScores, UpperTail

__all__ = [
    "ALPHA",
    "IMAGE_QUANTILE",
    "SIGMAS",
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


def conformal_rank(n: int, alpha: float) -> int:
    """``k = ceil((n + 1)(1 - alpha))``, in exact arithmetic on ``alpha`` as it is written in decimals."""
    return math.ceil((n + 1) * (1 - Fraction(repr(alpha))))


def conformal_threshold(scores: Any, alpha: float = ALPHA) -> float:
    """Return the conformal threshold of normal scores ``(n,)``; infinite where ``n < 1 / alpha - 1``.

    Raises:
        ValueError: ``alpha`` is not between 0 and 1, or a score is NaN or infinite.
    """
    scores = _checked(scores)
    if not 0 < alpha < 1:
        raise ValueError(f"'alpha' must be between 0 and 1, got {alpha:g}")
    k = conformal_rank(len(scores), alpha)
    return math.inf if k > len(scores) else float(np.sort(scores)[k - 1])


def p_values(normal: Any, scores: Any) -> np.ndarray:
    """Return the p-values of ``scores`` ``(N,)``, given those of normal images ``(n,)``."""
    normal, scores = _checked(normal), _checked(scores)
    above = len(normal) - np.searchsorted(np.sort(normal), scores, side="left")
    return (1 + above) / (len(normal) + 1)


def image_threshold(
    scores: Any, rule: str, alpha: float = ALPHA, sigmas: float = SIGMAS, quantile: float = IMAGE_QUANTILE
) -> float:
    """Return the threshold of image scores by a rule, from normal scores ``(n,)`` of at least one image."""
    if rule == "conformal":
        return conformal_threshold(scores, alpha)
    values = _checked(scores)
    return float(values.mean() + sigmas * values.std()) if rule == "sigma" else float(np.quantile(values, quantile))


def pixel_threshold(normal: NormalScores, rule: str, alpha: float = ALPHA, sigmas: float = SIGMAS) -> float:
    """Return the threshold of maps by a rule; ``quantile`` is that of ``contour_threshold``."""
    if rule == "conformal":
        return conformal_threshold(normal.largest, alpha)
    return normal.pixels.mean + sigmas * normal.pixels.std if rule == "sigma" else contour_threshold(normal.tail)


def contour_threshold(tail: UpperTail) -> float:
    """Return the threshold that 0.1 % of the normal pixels exceed; figures draw contours at it."""
    rank = _CONTOUR_SHARE * (tail.n_pixels - 1)
    above = int(rank)
    upper, lower = tail.values[above : above + 2].astype(float)[[0, -1]]  # as np.quantile, between two values
    return float(upper + (rank - above) * (lower - upper))


def _checked(scores: Any) -> np.ndarray:
    """Return scores ``(N,)`` as float64."""
    values = as_array(scores).astype(np.float64)
    check_finite(values, "scores")
    return values.ravel()

"""Confidence intervals over images: how much an AUROC would change with other test images.

The AUROC is the mean of a kernel over all pairs of an anomalous and a normal image: 1 where the anomalous one scores
    higher, 1/2 where both are equal. A resample of images only weights the rows and columns of the kernel, so two
    matrix products give thousands of resamples. The mean over seeds, or the difference of two methods on the same
    images, is the mean or the difference of their kernels. Anomalous and normal images are resampled separately,
    because the authors of the test set chose their shares. Intervals are bias-corrected and accelerated (Efron, JASA
    82, 1987).
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy import special

__all__ = ["Interval", "auroc_interval", "auroc_kernel"]


class Interval(NamedTuple):
    """A point estimate and its interval."""

    point: float
    low: float
    high: float


def auroc_kernel(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Compute the kernel of the AUROC.

    Args:
        scores: score by image, ``(N,)``.
        labels: 1 for anomalous, 0 for normal.

    Returns:
        ``(N_anomalous, N_normal)`` with values 0, 1/2, 1.
    """
    anomalous, normal = scores[labels == 1][:, None], scores[labels == 0][None, :]
    return (anomalous > normal) + 0.5 * (anomalous == normal)


def auroc_interval(
    kernels: Sequence[np.ndarray], *, confidence: float = 0.95, n_resamples: int = 2000, seed: int = 0
) -> Interval:
    """Compute the interval of the mean AUROC over sets of images, or of a mean difference.

    Args:
        kernels: one kernel per set of images, such as a category; or means or differences of kernels on the same
            images.
        confidence: coverage of the interval.
        n_resamples: number of resamples.
        seed: seed of the resamples; equal seeds resample sets of equal size at the same position alike.

    Returns:
        The interval. Its width is 0 for perfectly separated images: the test set is then too easy to estimate one.
    """
    draws = np.zeros(n_resamples)
    for place, kernel in enumerate(kernels):
        rows, columns = (_counts(size, n_resamples, seed + place, axis) for axis, size in enumerate(kernel.shape))
        draws += ((rows @ kernel) * columns).sum(axis=1) / kernel.size / len(kernels)
    point = float(np.mean([kernel.mean() for kernel in kernels]))
    below = (np.sum(draws < point) + 0.5 * np.sum(draws == point)) / n_resamples
    bias = special.ndtri(np.clip(below, 0.5 / n_resamples, 1 - 0.5 / n_resamples))
    tails = special.ndtri([(1 - confidence) / 2, (1 + confidence) / 2]) + bias
    levels = special.ndtr(bias + tails / (1 - _acceleration(kernels) * tails))
    low, high = np.quantile(draws, levels)
    return Interval(point, float(low), float(high))


def _acceleration(kernels: Sequence[np.ndarray]) -> float:
    """Skewness of the influence of single images, from leaving out each one; all samples are independent."""
    cubes = squares = 0.0
    for kernel in kernels:
        for axis, size in ((1, len(kernel)), (0, kernel.shape[1])):
            if size < 2:
                continue
            influence = (kernel.mean(axis=axis) - kernel.mean()) / len(kernels)  # (n - 1) times the change
            cubes += np.sum(influence**3) / size**3
            squares += np.sum(influence**2) / size**2
    return float(cubes / (6 * squares**1.5)) if squares > 0 and not math.isclose(squares, 0) else 0.0


@lru_cache(maxsize=32)
def _counts(size: int, n_resamples: int, seed: int, axis: int) -> np.ndarray:
    """Number of times that each of ``size`` images is drawn, ``(n_resamples, size)``."""
    rng = np.random.default_rng((seed, axis))
    return rng.multinomial(size, np.full(size, 1 / size), size=n_resamples).astype(float)

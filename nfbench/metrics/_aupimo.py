"""AUPIMO, the per-image overlap at false positive rates so low that normal images show next to nothing.

Bertoldo et al., "AUPIMO: Redefining Visual Anomaly Detection Benchmarks with High Speed and Low Tolerance", BMVC 2024.
With N normal images, F_j(t) is the share of pixels of image j that score at least t, and F(t) = (1/N) sum_j F_j(t): a
mean of rates, so that images of all sizes count alike. T_i(t) is the share of the mask of anomalous image i that scores
at least t, all regions together; false positives in it do not count.

    AUPIMO_i = 1 / ln(U / L) * integral of T_i d ln F from ln L to ln U,    L = 1e-5, U = 1e-4

Every distinct score is a threshold; see ``_levels`` for ties and bounds. Below the smallest F, T_i is the recall above
the largest normal score. The code of the paper and anomalib sample 300,000 thresholds at equal steps of the score, take
the nearest F as bounds but divide by the nominal ln(U / L), and raise an error where L is below the smallest F.

Cost: a comparison per pixel and a partial sort. Memory: the pixels of all masks, and a share U of the normal pixels.
"""

import math
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from nfbench.metrics._inputs import check_pairs
from nfbench.metrics._levels import FalsePositives

__all__ = ["BOUNDS", "aupimo", "aupimo_of"]

BOUNDS = (1e-5, 1e-4)
"""The bounds of F in the paper."""


def aupimo(maps: Sequence[Any], masks: Sequence[Any], bounds: tuple[float, float] = BOUNDS) -> np.ndarray:
    """Return the AUPIMO of each image.

    Args:
        maps: ``(H, W)`` each, higher is more anomalous; sizes may differ.
        masks: ``(H, W)`` each, boolean or 0 and 1; images with an empty mask are the normal ones.
        bounds: of the false positive rate, 0 < lower < upper <= 1.

    Returns:
        ``(N,)`` in [0, 1], NaN for normal images; all NaN, with a warning, without normal or anomalous images. A
        warning says where the lower bound is below the smallest false positive rate of these images.

    Raises:
        ValueError: other bounds; NaN or infinity, masks that are not binary, shapes or numbers that differ.
    """
    lower, upper = bounds
    if not 0 < lower < upper <= 1:
        raise ValueError(f"'bounds' must be 0 < lower < upper <= 1, got {lower:g} and {upper:g}")
    scores, truths = check_pairs(maps, masks)
    anomalous = np.array([mask.any() for mask in truths])
    if anomalous.all() or not anomalous.any():
        warnings.warn("AUPIMO is undefined without both normal and anomalous images", stacklevel=2)
        return np.full(len(scores), np.nan)
    values, smallest = aupimo_of(zip(scores, truths, strict=True), anomalous, bounds)
    if smallest > lower:
        warnings.warn(
            f"no threshold has a false positive rate below {smallest:.3g}; recall is constant from {lower:g} on",
            stacklevel=2,
        )
    return values


def aupimo_of(
    pairs: Iterable[tuple[np.ndarray, np.ndarray]], anomalous: np.ndarray, bounds: tuple[float, float] = BOUNDS
) -> tuple[np.ndarray, float]:
    """Return the AUPIMO of each image, and the smallest false positive rate above 0.

    Args:
        pairs: checked maps and boolean masks ``(H, W)`` of all images; read once.
        anomalous: ``(N,)``, True for anomalous images.
        bounds: as for ``aupimo``.

    Returns:
        ``(N,)``, NaN for normal images, for anomalous ones with an empty mask, and for all without normal images.
    """
    lower, upper = bounds
    values = np.full(len(anomalous), np.nan)
    n_normal = int(np.count_nonzero(~anomalous))
    if not n_normal:
        return values, np.nan
    found = FalsePositives(upper)
    kept: dict[int, tuple[np.ndarray, int]] = {}
    for row, (score_map, mask) in enumerate(pairs):
        if not anomalous[row]:
            found.add(score_map, 1 / (n_normal * score_map.size))
        elif mask.any():
            pixels = score_map[mask]
            kept[row] = pixels[pixels >= found.floor], pixels.size
    levels = found.levels()
    for row, (pixels, size) in kept.items():
        values[row] = levels.log_areas(pixels, lower, upper).sum() / (size * math.log(upper / lower))
    return values.clip(0, 1), float(levels.rates[-1])  # sums of many numbers stray by some 1e-15

"""Pixel metrics of maps and masks; exact, at the size of the maps."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from nfbench.metrics._inputs import check_pairs, label_regions
from nfbench.metrics._ranking import Areas, RankedScores, areas_under_curves, dense_ranks

__all__ = ["aupro", "average_precision", "pixel_areas", "pixel_auroc", "rank"]


def aupro(maps: Sequence[Any], masks: Sequence[Any], fpr_limit: float = 0.3) -> float:
    """Return the area under the per-region overlap up to a false positive rate; see ``pixel_areas``."""
    return pixel_areas(maps, masks, (fpr_limit,)).aupro[0]


def pixel_auroc(maps: Sequence[Any], masks: Sequence[Any]) -> float:
    """Return the area under the ROC curve of all pixels; see ``pixel_areas``."""
    return pixel_areas(maps, masks).auroc


def average_precision(maps: Sequence[Any], masks: Sequence[Any]) -> float:
    """Return the average precision of all pixels; see ``pixel_areas``."""
    return pixel_areas(maps, masks).average_precision


def pixel_areas(maps: Sequence[Any], masks: Sequence[Any], fpr_limits: Sequence[float] = (0.3,)) -> Areas:
    """Return AUROC, average precision, AUPRO and the best F1 of all pixels, from one sort.

    Args:
        maps: ``(H, W)`` each, higher is more anomalous; sizes may differ. float16 and float32 take 8 bytes per pixel,
            other types, ranked without loss, about 40.
        masks: ``(H, W)`` each, boolean or 0 and 1; all images of the test set, good ones included.
        fpr_limits: limits of AUPRO.

    Returns:
        Values in [0, 1], all NaN, with a warning, where there are no normal or no anomalous pixels.

    Raises:
        ValueError: NaN or infinity, masks that are not binary, shapes or numbers that differ; names the image's number.
    """
    return areas_under_curves(rank(maps, masks), fpr_limits)


def rank(maps: Sequence[Any], masks: Sequence[Any]) -> RankedScores:
    """Collect the pixels of all images, ready to be sorted; arguments and errors as for ``pixel_areas``."""
    scores, masks = check_pairs(maps, masks)
    values = None
    if any(score_map.dtype not in (np.float16, np.float32) for score_map in scores):
        scores, values = dense_ranks(scores)
    ranked = RankedScores(sum(score_map.size for score_map in scores), values)
    for score_map, mask in zip(scores, masks, strict=True):
        ranked.add(score_map, label_regions(mask) if mask.any() else None)
    return ranked

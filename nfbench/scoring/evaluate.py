"""Metrics of one scored test set, at the size of the original images."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import ndimage

from nfbench.datasets.manifest import Entry, read_mask
from nfbench.metrics.ranking import RankedScores, areas_under_curves, image_areas
from nfbench.scoring.maps import ScoredImages, resize_map

__all__ = ["GroundTruth", "evaluate", "select"]

Metrics = dict[str, float | None]

_EIGHT_CONNECTED = np.ones((3, 3), dtype=int)


class GroundTruth:
    """Labels and regions of a test set.

    Args:
        entries: test images, in the order of the scores.

    Attributes:
        labels: ``(N,)``, 1 for anomalous.
        has_masks: whether every anomalous image has a mask.
        regions: per image ``(H, W)`` integers, 0 where normal, else the 8-connected region; None for normal images.
    """

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.entries = entries
        self.labels = np.array([entry.label for entry in entries])
        self.has_masks = all(entry.mask for entry in entries if entry.label)
        self.regions = [_regions(entry) for entry in entries] if self.has_masks else []

    @property
    def n_regions(self) -> int:
        """Number of ground-truth regions of all images."""
        return sum(int(regions.max()) for regions in self.regions if regions is not None)

    def pixel_count(self) -> int:
        """Number of pixels of all images at their original size."""
        return sum(entry.height * entry.width for entry in self.entries)


def evaluate(scored: ScoredImages, truth: GroundTruth) -> Metrics:
    """All metrics of one set of scores.

    Returns:
        ``image_auroc`` and ``image_ap`` by the method's own rule, with ``_max``, ``_mean`` and ``_top1`` by the others;
        where there are masks, ``pixel_auroc``, ``pixel_ap`` and ``pixel_aupro`` (FPR up to 0.3). In [0, 1]; None where
        a metric is undefined.
    """
    metrics: Metrics = {}
    for rule, scores in scored.images.items():
        suffix = "" if rule == "paper" else f"_{rule}"
        areas = image_areas(scores, truth.labels)
        metrics[f"image_auroc{suffix}"] = _defined(areas.auroc)
        metrics[f"image_ap{suffix}"] = _defined(areas.average_precision)
    if truth.has_masks:
        ranked = RankedScores(truth.pixel_count())
        for entry, score_map, regions in zip(truth.entries, scored.maps, truth.regions, strict=True):
            resized = resize_map(score_map, entry.height, entry.width)
            ranked.add(resized, np.zeros_like(resized, dtype=int) if regions is None else regions)
        areas = areas_under_curves(ranked)
        metrics["pixel_auroc"] = _defined(areas.auroc)
        metrics["pixel_ap"] = _defined(areas.average_precision)
        metrics["pixel_aupro"] = _defined(areas.aupro)
    return metrics


def select(by_epoch: dict[int, Metrics], val_log_likelihood: dict[int, float | None]) -> dict[str, dict[str, Any]]:
    """Metrics by selection.

    Args:
        by_epoch: metrics of each kept epoch.
        val_log_likelihood: log-likelihood of held-out normal images by epoch, None without such images.

    Returns:
        ``last``: the last epoch; ``val``: the kept epoch whose held-out log-likelihood is best, left out where no image
        was held out; ``oracle``: the best value of each metric on its own, as most papers report. Each has ``metrics``
        and ``epoch`` (by metric for ``oracle``).
    """
    last = max(by_epoch)
    selections: dict[str, dict[str, Any]] = {"last": {"epoch": last, "metrics": by_epoch[last]}}
    held_out = {epoch: val_log_likelihood.get(epoch) for epoch in by_epoch}
    if all(value is not None for value in held_out.values()):
        best = max(held_out, key=held_out.__getitem__)
        selections["val"] = {"epoch": best, "metrics": by_epoch[best]}
    best_epochs = {
        name: max(
            by_epoch, key=lambda epoch, name=name: -math.inf if by_epoch[epoch][name] is None else by_epoch[epoch][name]
        )
        for name in by_epoch[last]
    }
    selections["oracle"] = {
        "epoch": best_epochs,
        "metrics": {name: by_epoch[epoch][name] for name, epoch in best_epochs.items()},
    }
    return selections


def _regions(entry: Entry) -> np.ndarray | None:
    if not entry.mask:
        return None
    return ndimage.label(read_mask(entry.mask), structure=_EIGHT_CONNECTED)[0]


def _defined(value: float) -> float | None:
    return None if math.isnan(value) else value

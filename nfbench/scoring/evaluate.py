"""Metrics of one scored test set, at the size of the original images."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import ndimage

from nfbench.datasets.manifest import Entry, read_checked_mask
from nfbench.metrics.inputs import label_regions
from nfbench.metrics.iou import AGGREGATIONS, IouSweep, fair_threshold, iou_sweep, mean_iou
from nfbench.metrics.ranking import Areas, RankedScores, areas_under_curves, image_areas
from nfbench.scoring.a_contrario import log_nfa_of_energies
from nfbench.scoring.maps import ScoredImages, resize_map

__all__ = ["Curve", "Evaluation", "GroundTruth", "evaluate", "log_nfa_maps", "select"]

Metrics = dict[str, float | None]

_FPR_LIMITS = (0.3, 0.05)
_CURVE_POINTS = 201


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
        masked = entries if self.has_masks else []
        self.regions = [label_regions(read_checked_mask(entry)) if entry.mask else None for entry in masked]

    @property
    def n_regions(self) -> int:
        """Number of ground-truth regions of all images."""
        return sum(int(regions.max()) for regions in self.regions if regions is not None)

    def pixel_count(self) -> int:
        """Number of pixels of all images at their original size."""
        return sum(entry.height * entry.width for entry in self.entries)

    def rank(self, maps: np.ndarray) -> RankedScores:
        """Collects the pixels of maps ``(N, h, w)``, resized to the images."""
        ranked = RankedScores(self.pixel_count())
        for resized, regions in zip(self.resized(maps), self.regions, strict=True):
            ranked.add(resized, regions)
        return ranked

    def resized(self, maps: np.ndarray) -> Iterator[np.ndarray]:
        """Maps ``(N, h, w)`` at the size of the images."""
        for score_map, entry in zip(maps, self.entries, strict=True):
            yield resize_map(score_map, entry.height, entry.width)

    def masks(self) -> Iterator[np.ndarray]:
        """Boolean masks ``(H, W)`` of all images."""
        for entry, regions in zip(self.entries, self.regions, strict=True):
            yield np.zeros((entry.height, entry.width), dtype=bool) if regions is None else regions > 0


class Curve(NamedTuple):
    """Mean IoU against the threshold, ``(T,)`` each, by aggregation."""

    thresholds: np.ndarray
    miou: dict[str, np.ndarray]


class Evaluation(NamedTuple):
    """Everything measured of one set of scores.

    Attributes:
        metrics: in [0, 1], higher is better, but for ``false_alarms``; None where undefined.
            ``image_auroc``, ``image_ap``, ``image_f1`` by the method's own rule, with ``_max``, ``_mean`` and
            ``_top1`` by the others. Where there are masks: ``pixel_auroc``, ``pixel_ap``, ``pixel_f1``,
            ``pixel_aupro`` (FPR up to 0.3), ``pixel_aupro_05``; mean IoU of the anomaly map at the best threshold,
            ``miou_oracle``, and at one false positive pixel per normal training image, ``miou_fair``; of the log-NFA
            map at NFA < 1, ``miou_nfa``, the same with the guard, ``miou_nfa_guard``, and at the best threshold,
            ``miou_nfa_oracle``; each over all images, with ``_anomalous`` over anomalous ones, with ``_pooled`` over
            the pixels together. F1 is the best. Detected regions per normal test image: ``false_alarms_fair``,
            ``false_alarms_nfa``, ``false_alarms_nfa_guard``.
        thresholds: of ``image_f1``, ``pixel_f1``, ``fair``, ``miou_oracle``; of ``miou_nfa_oracle`` in log10 NFA.
        detections: number of detected regions of each image ``(N,)``, by ``fair``, ``nfa``, ``nfa_guard``.
        curves: by map, ``score`` or ``nfa`` (thresholds of -log10 NFA).
    """

    metrics: Metrics
    thresholds: dict[str, float]
    detections: dict[str, np.ndarray]
    curves: dict[str, Curve]


def evaluate(
    scored: ScoredImages, truth: GroundTruth, normal_maps: np.ndarray, log_nfa: Mapping[str, np.ndarray]
) -> Evaluation:
    """Measures one set of scores.

    Args:
        scored: of the test images.
        truth: their labels and regions.
        normal_maps: ``(M, h, w)``, maps of the normal training images, for the fair threshold.
        log_nfa: what ``log_nfa_maps`` says of the test images.
    """
    fair = fair_threshold(normal_maps)
    found = Evaluation({}, {"fair": fair}, {"fair": _count_regions(scored.maps > fair)}, {})
    for rule, scores in scored.images.items():
        suffix = "" if rule == "paper" else f"_{rule}"
        _add_areas(found, "image", suffix, image_areas(scores, truth.labels))
    if truth.has_masks:
        _add_pixels(found, scored.maps, truth)
    if log_nfa:
        _add_a_contrario(found, log_nfa, truth)
    normal = truth.labels == 0
    for name, counts in found.detections.items():
        found.metrics[f"false_alarms_{name}"] = float(counts[normal].mean()) if normal.any() else math.nan
    metrics = {name: None if math.isnan(value) else value for name, value in found.metrics.items()}
    thresholds = {name: value for name, value in found.thresholds.items() if math.isfinite(value)}
    return found._replace(metrics=metrics, thresholds=thresholds)


def log_nfa_maps(scored: ScoredImages) -> dict[str, np.ndarray]:
    """Maps of log10 NFA at the size of the anomaly maps, ``(N, H, W)`` float32.

    Returns:
        ``nfa`` as published and ``nfa_guard`` with the guard; nothing where the method has no standard normal latents.
    """
    if not scored.energies:
        return {}
    size = scored.maps.shape[1:]
    images = list(zip(*scored.energies, strict=True))
    return {
        name: np.stack([log_nfa_of_energies(image, scored.channels, size, guard) for image in images]).astype(
            np.float32
        )
        for name, guard in (("nfa", False), ("nfa_guard", True))
    }


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
        name: max(by_epoch, key=lambda epoch, name=name: _goodness(name, by_epoch[epoch][name]))
        for name in by_epoch[last]
    }
    selections["oracle"] = {
        "epoch": best_epochs,
        "metrics": {name: by_epoch[epoch][name] for name, epoch in best_epochs.items()},
    }
    return selections


def _goodness(metric: str, value: float | None) -> float:
    if value is None:
        return -math.inf
    return -value if metric.startswith("false_alarms") else value


def _add_pixels(found: Evaluation, maps: np.ndarray, truth: GroundTruth) -> None:
    """Adds what the sort of all pixels gives; a function of its own, so that their memory is free afterwards."""
    ranked = truth.rank(maps)
    areas = areas_under_curves(ranked, _FPR_LIMITS)
    _add_areas(found, "pixel", "", areas)
    found.metrics.update({"pixel_aupro": areas.aupro[0], "pixel_aupro_05": areas.aupro[1]})
    grid = _grid(maps)
    sweep = iou_sweep(ranked, [found.thresholds["fair"], *grid])
    _add_sweep(found, "score", "miou_oracle", "miou_fair", sweep, grid)
    found.thresholds["miou_oracle"] = sweep.optimum["all"].threshold


def _grid(maps: np.ndarray) -> np.ndarray:
    """Thresholds to draw a curve at: equal steps, and quantiles, since scores may have a heavy tail."""
    steps = np.linspace(maps.min(), maps.max(), _CURVE_POINTS)
    return np.unique([*steps, *np.quantile(maps[:, ::4, ::4], np.linspace(0, 1, _CURVE_POINTS))])


def _add_a_contrario(found: Evaluation, log_nfa: Mapping[str, np.ndarray], truth: GroundTruth) -> None:
    found.detections.update({name: _count_regions(maps < 0) for name, maps in log_nfa.items()})
    if not truth.has_masks:
        return
    scores = -log_nfa["nfa"]
    grid = _grid(scores)
    sweep = iou_sweep(truth.rank(scores), [0.0, *grid])
    _add_sweep(found, "nfa", "miou_nfa_oracle", "miou_nfa", sweep, grid)
    found.thresholds["miou_nfa_oracle"] = -sweep.optimum["all"].threshold
    of_guard = mean_iou((resized < 0 for resized in truth.resized(log_nfa["nfa_guard"])), truth.masks())
    found.metrics.update({_named("miou_nfa_guard", name): of_guard[name] for name in AGGREGATIONS})


def _add_areas(found: Evaluation, kind: str, suffix: str, areas: Areas) -> None:
    values = {"auroc": areas.auroc, "ap": areas.average_precision, "f1": areas.f1}
    found.metrics.update({f"{kind}_{name}{suffix}": value for name, value in values.items()})
    found.thresholds[f"{kind}_f1{suffix}"] = areas.f1_threshold


def _add_sweep(found: Evaluation, curve: str, optimum: str, at_first: str, sweep: IouSweep, grid: np.ndarray) -> None:
    """Adds the optimum, the values at the first threshold, and the curve over the others."""
    for name in AGGREGATIONS:
        found.metrics[_named(optimum, name)] = sweep.optimum[name].miou
        found.metrics[_named(at_first, name)] = float(sweep.curve[name][0])
    found.curves[curve] = Curve(grid, {name: values[1:] for name, values in sweep.curve.items()})


def _named(metric: str, aggregation: str) -> str:
    return metric if aggregation == "all" else f"{metric}_{aggregation}"


def _count_regions(detected: np.ndarray) -> np.ndarray:
    """Number of 4-connected regions of each mask of ``(N, H, W)``."""
    return np.array([ndimage.label(mask)[1] for mask in detected])

"""Metrics of one scored test set, at the size of the original images."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import ndimage

from nfbench.core import scratch
from nfbench.core.errors import NfbenchError, faults_of, required
from nfbench.datasets._channels import has_channels
from nfbench.datasets._manifest import Entry, read_checked_mask
from nfbench.metrics import BY_RULE, BY_THRESHOLD, Named, metrics_of
from nfbench.metrics._inputs import label_regions
from nfbench.metrics._iou import IouSweep, fair_threshold_of, iou_sweep, mean_iou
from nfbench.metrics._ranking import UNDEFINED, Areas, RankedScores, areas_under_curves, image_areas
from nfbench.metrics._samples import have_samples
from nfbench.metrics._spro import Channel
from nfbench.metrics._tails import NormalScores
from nfbench.metrics._thresholds import image_threshold, pixel_threshold
from nfbench.scoring.channels import read_saturated
from nfbench.scoring.maps import ScoredImages, resize_map
from nfbench.scoring.rates import PixelCounts, Rates, image_rates, pixel_counts

__all__ = ["Curve", "Evaluation", "GroundTruth", "ScoredSet", "evaluate", "have_masks"]

Metrics = dict[str, float | None]

_FPR_LIMITS = (0.3, 0.05)
_CURVE_POINTS = 201


class Regions:
    """Ground-truth regions by image, labelled on access; only one bit per pixel is stored.

    Args:
        entries: images whose masks are read.
    """

    def __init__(self, entries: Sequence[Entry]) -> None:
        masks = (read_checked_mask(entry) if entry.mask else None for entry in entries)
        self._packed = [None if mask is None else (np.packbits(mask), mask.shape) for mask in masks]

    def __len__(self) -> int:
        return len(self._packed)

    def __getitem__(self, index: int) -> np.ndarray | None:
        mask = self.mask(index)
        return None if mask is None else label_regions(mask)

    def __iter__(self) -> Iterator[np.ndarray | None]:
        return (self[index] for index in range(len(self)))

    def mask(self, index: int) -> np.ndarray | None:
        """Return the mask ``(H, W)`` of an image, or None if it has none."""
        if (kept := self._packed[index]) is None:
            return None
        bits, shape = kept
        return np.unpackbits(bits, count=math.prod(shape)).reshape(shape).view(bool)


class GroundTruth:
    """Labels and regions of a test set.

    Args:
        entries: test images, in the order of the scores.

    Attributes:
        labels: ``(N,)``, 1 for anomalous.
        has_masks: whether every anomalous image has a mask.
        has_channels: whether these masks have one file per defect.
        regions: per image ``(H, W)`` integers, 0 where normal, else the 8-connected region; None for normal images.
    """

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.entries = entries
        self.labels = np.array([entry.label for entry in entries], dtype=int)
        self.has_masks = have_masks(entries)
        masks = {entry.mask for entry in entries if entry.label}
        self.has_channels = bool(masks) and all(map(has_channels, masks))
        self.regions = Regions(entries if self.has_masks else [])

    @property
    def n_regions(self) -> int:
        """Return the number of ground-truth regions of all images."""
        return sum(int(regions.max()) for regions in self.regions if regions is not None)

    def pixel_count(self) -> int:
        """Return the number of pixels of all images at their original size."""
        return sum(entry.height * entry.width for entry in self.entries)

    def channels(self) -> Iterator[list[Channel]]:
        """Read the defects of all images, one channel each; none for normal images."""
        return map(read_saturated, self.entries)

    def rank(self, maps: Iterable[np.ndarray], folder: Path | None = None) -> RankedScores:
        """Collect the pixels of maps ``(h, w)``, resized to the images; ``folder`` as for ``RankedScores``."""
        ranked = RankedScores(self.pixel_count(), folder=folder)
        for resized, regions in zip(self.resized(maps), self.regions, strict=True):
            ranked.add(resized, regions)
        return ranked

    def resized(self, maps: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Resize maps ``(h, w)`` to the size of the images."""
        for score_map, entry in zip(maps, self.entries, strict=True):
            yield resize_map(score_map, entry.height, entry.width)

    def masks(self) -> Iterator[np.ndarray]:
        """Return the boolean masks ``(H, W)`` of all images."""
        for index, entry in enumerate(self.entries):
            mask = self.regions.mask(index)
            yield np.zeros((entry.height, entry.width), dtype=bool) if mask is None else mask


def have_masks(entries: Sequence[Entry]) -> bool:
    """Whether every anomalous image has a mask."""
    return all(entry.mask for entry in entries if entry.label)


class Curve(NamedTuple):
    """Mean IoU against the threshold, ``(T,)`` each, by aggregation."""

    thresholds: np.ndarray
    miou: dict[str, np.ndarray]


class ScoredSet:
    """A scored test set, as metrics see it. Shared values are computed once, on first use.

    Args:
        scored: of the test images.
        truth: their labels and regions.
        normal: returns the statistics of normal images that thresholds need.
        log_nfa: ``log_nfa_maps`` of the test images.
        folder: for files of arrays too large for memory; see ``nfbench.core.scratch.empty``.

    Attributes:
        labels: ``(N,)``, 1 for anomalous.
        images: image scores ``(N,)`` by rule, the keys of ``nfbench.metrics.BY_RULE``.
    """

    def __init__(
        self,
        scored: ScoredImages,
        truth: GroundTruth,
        normal: Callable[[], NormalScores],
        log_nfa: Mapping[str, np.ndarray],
        folder: Path | None = None,
    ) -> None:
        self.labels, self.images, self.truth = truth.labels, scored.images, truth
        self._maps, self._normal, self._log_nfa, self._folder = scored.maps, normal, log_nfa, folder
        self._ranked: tuple[str, RankedScores] | None = None
        self._sweeps: dict[str, IouSweep] = {}
        self._grids: dict[str, np.ndarray] = {}
        self._detections: dict[tuple[str, float], np.ndarray] = {}
        self._ious: dict[tuple[str, float], dict[str, float]] = {}
        self._pixel_counts: dict[str, PixelCounts] = {}
        self._shared: dict[str, Any] = {}

    @cached_property
    def image_areas(self) -> dict[str, Areas]:
        """AUROC, average precision and the best F1 of the images, by rule; NaN without both kinds of images."""
        both = len(np.unique(self.labels)) == 2
        return {rule: image_areas(scores, self.labels) if both else UNDEFINED for rule, scores in self.images.items()}

    @cached_property
    def pixel_areas(self) -> Areas:
        """AUROC, average precision and the best F1 of the pixels; AUPRO up to each of ``_FPR_LIMITS``."""
        return areas_under_curves(self._rank("score"), _FPR_LIMITS)

    def aupro(self, fpr_limit: float) -> float:
        """AUPRO up to a false positive rate; those of ``_FPR_LIMITS`` share a pass over the pixels."""
        if fpr_limit in _FPR_LIMITS:
            return self.pixel_areas.aupro[_FPR_LIMITS.index(fpr_limit)]
        return areas_under_curves(self._rank("score"), (fpr_limit,)).aupro[0]

    @cached_property
    def normal(self) -> NormalScores:
        """Return the statistics of normal images that thresholds need."""
        return self._normal()

    @cached_property
    def fair_threshold(self) -> float:
        """Return the anomaly map's threshold with one false positive pixel per normal image."""
        return fair_threshold_of(self.normal.tail)

    def image_threshold(self, rule: str) -> float:
        """Return the threshold of image scores, NaN if undefined; rules as for ``image_rates`` but ``nfa``."""
        return self.image_areas["paper"].f1_threshold if rule == "oracle" else image_threshold(self.normal.images, rule)

    def image_rates(self, rule: str) -> Rates:
        """Return image error rates; rules: those of ``nfbench.metrics.BY_THRESHOLD``, ``oracle`` and ``nfa``."""
        if rule == "nfa":
            return image_rates(self.detections("nfa"), self.labels, 0)
        return image_rates(self.images["paper"], self.labels, self.image_threshold(rule))

    def pixel_threshold(self, rule: str) -> float:
        """Threshold of the anomaly map, as ``image_threshold``."""
        return self.pixel_areas.f1_threshold if rule == "oracle" else pixel_threshold(self.normal, rule)

    def pixel_counts(self, rule: str) -> PixelCounts:
        """Return the pixels' counts by image; rules as for ``image_rates``. One map takes one pass."""
        if rule not in self._pixel_counts:
            rules = ["nfa"] if rule == "nfa" else [*BY_THRESHOLD, "oracle"]
            thresholds = {name: 0.0 if name == "nfa" else self.pixel_threshold(name) for name in rules}
            maps = self.truth.resized(self._images("nfa" if rule == "nfa" else "score"))
            self._pixel_counts |= pixel_counts(maps, self.truth.masks(), thresholds)
        return self._pixel_counts[rule]

    def pixel_rates(self, rule: str) -> Rates:
        """Return the pixels' error rates, of all images together; rules as for ``image_rates``."""
        return self.pixel_counts(rule).rates

    def pairs(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the anomaly maps at the size of the images, and their boolean masks."""
        return zip(self.truth.resized(self._images("score")), self.truth.masks(), strict=True)

    def channels(self) -> Iterator[tuple[np.ndarray, list[Channel]]]:
        """Yield the anomaly maps at the size of the images, and the channels of their defects."""
        return zip(self.truth.resized(self._images("score")), self.truth.channels(), strict=True)

    def once(self, name: str, compute: Callable[[], Any]) -> Any:
        """Return what ``compute`` returns, computed at the first call with this name."""
        if name not in self._shared:
            self._shared[name] = compute()
        return self._shared[name]

    @property
    def maps(self) -> list[str]:
        """Return the names of the available maps, for ``sweep``."""
        return [name for name, there in (("score", self._maps is not None), ("nfa", bool(self._log_nfa))) if there]

    @property
    def detectors(self) -> list[str]:
        """Return the detectors whose thresholds need no anomalies; see ``detections``."""
        return [] if self._maps is None else ["fair", *self._log_nfa]

    def detections(self, detector: str, log_nfa: float = 0.0) -> np.ndarray:
        """Return the number of detected regions per image, ``(N,)``, at the maps' own size.

        Args:
            detector: ``fair``; for methods with white latents also ``nfa`` and ``nfa_guard``, NFA < 1.
            log_nfa: log10 of the NFA below which ``nfa`` and ``nfa_guard`` detect.
        """
        if (detector, log_nfa) not in self._detections:
            if detector == "fair":
                detected = (score_map > self.fair_threshold for score_map in self._images("score"))
            else:
                detected = (of_image < log_nfa for of_image in scratch.walk(self._log_nfa[detector]))
            self._detections[detector, log_nfa] = np.array([ndimage.label(mask)[1] for mask in detected])
        return self._detections[detector, log_nfa]

    def per_normal_image(self, counts: np.ndarray) -> float:
        """Average a count by image ``(N,)`` over the normal test images; NaN without such images."""
        normal = counts[self.labels == 0]
        return float(normal.mean()) if normal.size else math.nan

    def iou(self, detector: str, log_nfa: float = 0.0) -> dict[str, float]:
        """Return the mean IoU of a detector's mask, by aggregation; arguments as for ``detections``."""
        of_sweep = {("fair", 0.0): "score", ("nfa", 0.0): "nfa"}
        if name := of_sweep.get((detector, log_nfa)):
            return {over: float(values[0]) for over, values in self.sweep(name).curve.items()}
        if (detector, log_nfa) not in self._ious:
            resized = self.truth.resized(scratch.walk(self._log_nfa[detector]))
            detected = (of_image < log_nfa for of_image in resized)
            self._ious[detector, log_nfa] = mean_iou(detected, self.truth.masks())
        return self._ious[detector, log_nfa]

    def sweep(self, name: str) -> IouSweep:
        """Mean IoU over all thresholds, and at the automatic one followed by those of the curve.

        Args:
            name: ``score``, the anomaly map, or ``nfa``, the map of -log10 NFA.
        """
        if name not in self._sweeps:
            automatic = self.fair_threshold if name == "score" else 0.0
            self._sweeps[name] = iou_sweep(self._rank(name), [automatic, *self._grid(name)])
        return self._sweeps[name]

    def curve(self, name: str) -> Curve:
        """Mean IoU against the threshold of a map, as for ``sweep``."""
        return Curve(self._grid(name), {over: values[1:] for over, values in self.sweep(name).curve.items()})

    def defines(self, named: Named) -> bool:
        """Return whether the test set has the images that a metric needs; masks are those of anomalies."""
        return bool(self.labels.any() if named.metric.needs_masks else self.labels.size)

    def measures(self, named: Named) -> bool:
        """Return whether what a metric needs of masks, images and latents exists; not for transductive scores."""
        metric = named.metric
        has_maps = self._maps is not None or not (metric.size or (metric.variants is BY_RULE and not named.plain))
        has_all = (
            (self.truth.has_masks or not metric.needs_masks)
            and (self.truth.has_channels or not metric.needs_channels)
            and (not metric.needs_samples or have_samples(entry.image for entry in self.truth.entries))
            and (self._log_nfa or not metric.needs_latents)
        )
        return bool(has_maps and has_all) and not named.transductive

    def _images(self, name: str) -> Iterator[np.ndarray]:
        """A map, image by image."""
        if name == "score":
            return scratch.walk(required(self._maps, "the maps of the method"))
        return (-log_nfa for log_nfa in scratch.walk(self._log_nfa[name]))

    def _rank(self, name: str) -> RankedScores:
        """Return the pixels of a map; only one map is kept, since a pixel takes 8 bytes."""
        if self._ranked is None or self._ranked[0] != name:
            self._ranked = None
            self._ranked = name, self.truth.rank(self._images(name), self._folder)
        return self._ranked[1]

    def _grid(self, name: str) -> np.ndarray:
        """Thresholds to draw a curve at: equal steps, and quantiles, since scores may have a heavy tail."""
        if name not in self._grids:
            shape = required(self._maps if name == "score" else self._log_nfa[name], "the maps of the method").shape
            sampled = np.empty((shape[0], *(math.ceil(side / 4) for side in shape[1:])), np.float32)
            ends = np.empty((shape[0], 2), np.float32)
            for row, of_image in enumerate(self._images(name)):
                sampled[row], ends[row] = of_image[::4, ::4], (of_image.min(), of_image.max())
            steps = np.linspace(ends.min(), ends.max(), _CURVE_POINTS)
            quantiles = np.quantile(sampled, np.linspace(0, 1, _CURVE_POINTS), overwrite_input=True)
            self._grids[name] = np.unique([*steps, *quantiles])
        return self._grids[name]


class Evaluation(NamedTuple):
    """All measurements of one set of scores.

    Attributes:
        metrics: by name, see ``nfbench.metrics``; None where undefined. Those without what they need are left out.
        thresholds: by metric that chooses one, such as ``image_f1``; and ``fair``. Log-NFA maps: in log10 NFA.
        detections: number of detected regions of each image ``(N,)``, by ``fair``, ``nfa``, ``nfa_guard``.
        curves: by map, ``score`` or ``nfa`` (thresholds of -log10 NFA).
        by_image: values of each image ``(N,)``, NaN where undefined, by metric that is a mean over images.
    """

    metrics: Metrics
    thresholds: dict[str, float]
    detections: dict[str, np.ndarray]
    curves: dict[str, Curve]
    by_image: dict[str, np.ndarray]


def evaluate(
    scored: ScoredImages,
    truth: GroundTruth,
    normal: NormalScores,
    log_nfa: Mapping[str, np.ndarray],
    measured: Sequence[str] = (),
    folder: Path | None = None,
) -> Evaluation:
    """Measure one set of scores.

    Args:
        scored: of the test images.
        truth: their labels and regions.
        normal: statistics of normal images that thresholds need.
        log_nfa: ``log_nfa_maps`` of the test images.
        measured: families of metrics, by default all.
        folder: as for ``ScoredSet``.

    Raises:
        NfbenchError: a metric fails, or is infinite; names it and its file.
    """
    test = ScoredSet(scored, truth, lambda: normal, log_nfa, folder)
    chosen = [named for named in metrics_of(measured) if test.measures(named)]
    metrics: Metrics = {}
    thresholds = {"fair": test.fair_threshold} if "fair" in test.detectors else {}
    for named in sorted(chosen, key=lambda named: named.metric.needs_latents):  # so that each map is sorted once
        value = _measured(named, named.metric.value, test) if test.defines(named) else math.nan
        if math.isinf(value):
            raise NfbenchError(f"{_plugin(named)} is infinite; it must be a number, or NaN where it is undefined")
        metrics[named.name] = None if math.isnan(value) else value
        if named.metric.threshold and test.defines(named):
            thresholds[named.name] = _measured(named, named.metric.threshold, test)
    return Evaluation(
        metrics,
        {name: float(value) for name, value in thresholds.items() if math.isfinite(value)},
        {detector: test.detections(detector) for detector in test.detectors},
        {name: test.curve(name) for name in test.maps if truth.has_masks and truth.labels.any()},
        {n.name: n.metric.by_image(test, n.variant) for n in chosen if n.metric.by_image and test.defines(n)},
    )


def _measured(named: Named, function: Callable[[ScoredSet, str], float], test: ScoredSet) -> float:
    """Return the value of a metric.

    Raises:
        NfbenchError: its function fails or does not return a number; names the metric and its file.
    """
    with faults_of(_plugin(named)):
        return float(function(test, named.variant))


def _plugin(named: Named) -> str:
    return f"metric '{named.name}' of nfbench/metrics/{named.family}.py"

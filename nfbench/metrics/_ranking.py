"""AUROC, average precision, AUPRO and the best F1 from one sort, which ``iou`` shares.

Definitions:

- AUROC: area under TPR against FPR with all distinct scores as thresholds, ties sharing one threshold (trapezoid).
- Average precision: sum over thresholds of (recall step) * precision, as scikit-learn defines it, no interpolation.
- AUPRO, as in the official evaluation of MVTec AD: PRO(t) is the mean over all ground-truth regions of the share of
  their pixels that score at least t; FPR counts the defect-free pixels of all images, good ones included. Area under
  PRO against FPR from (0, 0) up to the FPR limit, linear between thresholds also at the limit, divided by the limit.
- F1: 2 TP / (2 TP + FP + FN), at the threshold where it is largest.

Scores are higher where more anomalous. Each score and its region share one 64-bit integer, so that a single in-place
sort orders both; sums are integers or float64. Memory: 8 bytes per pixel, and a constant. Beyond 2 GiB, sorted parts
are kept in files and merged when they are read: the same integers in the same order.
"""

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nfbench.core import scratch
from nfbench.metrics._inputs import as_array, check_finite, check_labelled

__all__ = [
    "UNDEFINED",
    "Areas",
    "Piece",
    "RankedScores",
    "areas_under_curves",
    "dense_ranks",
    "image_areas",
    "just_below",
]

_CHUNK = 1 << 18
_IN_MEMORY = 1 << 28
"""More scores than this are sorted in parts."""
_MERGED = 1 << 24
"""About this many scores of all sorted parts are merged at a time."""
_STEP = 1 << 14
"""An index in memory keeps one of this many scores of a sorted part."""
_LOW = np.uint64(0xFFFFFFFF)


class Areas(NamedTuple):
    """Areas and F1 in [0, 1], NaN where undefined; ``aupro`` by FPR limit. F1 is that of ``score > f1_threshold``."""

    auroc: float
    average_precision: float
    aupro: tuple[float, ...]
    f1: float
    f1_threshold: float


UNDEFINED = Areas(np.nan, np.nan, (), np.nan, np.nan)
"""Areas without normal or without anomalous scores: all NaN."""


class Piece(NamedTuple):
    """Consecutive scores in descending order; a repeated value may continue in the next piece.

    Attributes:
        codes: ``(n,)``, index of each score into the tables of ``RankedScores``.
        last: ``(k,)``, position of the last score of each distinct value that ends in this piece.
        values: ``(k,)``, these values.
    """

    codes: np.ndarray
    last: np.ndarray
    values: np.ndarray


class RankedScores:
    """Collect scores with their regions; filled image by image, sorted once.

    Args:
        size: number of scores to come.
        values: sorted distinct scores, if ``add`` receives ranks among them (see ``dense_ranks``).
        folder: of files, where there are too many scores to sort them in memory; see ``nfbench.core.scratch.empty``.

    The scores of one region, and the normal ones of one image, share a code, an index into ``image`` and
    ``region_size``.
    """

    def __init__(self, size: int, values: np.ndarray | None = None, folder: Path | None = None) -> None:
        self.size = size
        self._packed = np.empty(min(size, _IN_MEMORY), dtype=np.uint64)
        self._filled = 0
        self._stored: list[_SortedPart] = []
        self._folder = folder
        self._sorted = False
        self._values = values
        self._images: list[int] = []
        self._region_sizes: list[int] = []
        self._n_images = 0

    def add(self, scores: Any, regions: Any = None) -> None:
        """Add the scores of one image.

        Args:
            scores: finite float32 of any shape, or ranks as uint32.
            regions: integers of the same shape; 0 is normal, 1 to R are the image's own regions. None: all is normal.

        Raises:
            ValueError: a score is NaN or infinite, a region is not an integer of at least 0, or the shapes differ.
        """
        scores = as_array(scores).ravel()
        keys = scores if self._values is not None else _ascending_keys(scores)
        code, sizes = len(self._images), np.zeros(1, dtype=np.int64)
        target = self._space(scores.size)
        np.left_shift(~keys, np.uint64(32), out=target, dtype=np.uint64)
        if regions is None:
            target |= np.uint64(code)
        else:
            labels = as_array(regions).ravel()
            if labels.shape != scores.shape:
                raise ValueError(f"'regions' must have as many entries as 'scores' ({scores.size}), got {labels.size}")
            if labels.dtype.kind not in "iub" or labels.min(initial=0) < 0:
                raise ValueError(f"'regions' must be integers from 0 on, got {labels.dtype}, {labels.min(initial=0)}")
            target |= (labels + code).astype(np.uint32)
            sizes = np.bincount(labels, minlength=1)
        self._region_sizes += [0, *sizes[1:].tolist()]
        self._images += [self._n_images] * len(sizes)
        self._n_images += 1
        self._filled += scores.size

    @property
    def image(self) -> np.ndarray:
        """Number of the image by code."""
        return np.array(self._images, dtype=np.int64)

    @property
    def region_size(self) -> np.ndarray:
        """Number of pixels of the region by code, 0 for normal pixels."""
        return np.array(self._region_sizes, dtype=np.int64)

    def pieces(self) -> Iterator[Piece]:
        """Yield all scores in descending order; sort them at the first call."""
        if not self._sorted:
            if self._n_scores != self.size:
                raise ValueError(f"expected {self.size} scores, got {self._n_scores}")
            if self._stored:
                self._store()
                self._packed = self._packed[:0].copy()
            self._packed.sort()
            self._sorted = True
        return self._pieces()

    @property
    def _n_scores(self) -> int:
        return self._filled + sum(len(part.packed) for part in self._stored)

    def _space(self, count: int) -> np.ndarray:
        """Where the next scores go."""
        if self._n_scores + count > self.size:
            raise ValueError(f"expected {self.size} scores, got {self._n_scores + count}")
        if self._filled + count > len(self._packed):
            self._store()
            if count > len(self._packed):
                self._packed = np.empty(count, dtype=np.uint64)
        return self._packed[self._filled : self._filled + count]

    def _store(self) -> None:
        """Sort the scores in memory and move them to a file."""
        if self._filled:
            packed = self._packed[: self._filled]
            packed.sort()
            self._stored.append(_SortedPart(scratch.stored(packed, self._folder), packed[::_STEP].copy()))
            self._filled = 0

    def _pieces(self) -> Iterator[Piece]:
        for packed in self._chunks():
            keys = (packed >> np.uint64(32)).astype(np.uint32)
            last = np.flatnonzero(keys[1:] != keys[:-1])
            if len(packed) <= _CHUNK:
                last = np.append(last, len(keys) - 1)
            ends = ~keys[last]
            values = _floats(ends) if self._values is None else self._values[ends]
            yield Piece((packed[:_CHUNK] & _LOW).astype(np.int64), last, values)

    def _chunks(self) -> Iterator[np.ndarray]:
        """The sorted scores in pieces of ``_CHUNK``, each with the first of the next one but the last piece."""
        left = self._packed[:0]
        for merged in _merged(self._stored) if self._stored else [self._packed]:
            left = np.concatenate([left, merged]) if len(left) else merged
            whole = max(len(left) - 1, 0) // _CHUNK * _CHUNK
            for start in range(0, whole, _CHUNK):
                yield left[start : start + _CHUNK + 1]
            left = left[whole:]
        if len(left):
            yield left


class _SortedPart(NamedTuple):
    """Packed scores in ascending order, mapped from a file, and each ``_STEP``-th of them in memory."""

    packed: np.ndarray
    sampled: np.ndarray

    def count_below(self, limit: np.uint64) -> int:
        """Return how many are below ``limit``; read at most ``_STEP`` of them."""
        above = int(np.searchsorted(self.sampled, limit))  # the first of the samples that is not below
        start = max(above - 1, 0) * _STEP
        return start + int(np.searchsorted(self.packed[start : above * _STEP], limit))


def _merged(stored: Sequence[_SortedPart]) -> Iterator[np.ndarray]:
    """Yield all packed scores in ascending order, merging all parts by ranges of values."""
    sampled = np.sort(np.concatenate([part.sampled for part in stored]))
    starts = [0] * len(stored)
    for limit in [*np.unique(sampled[:: max(_MERGED // _STEP, 1)]), None]:
        ends = [len(part.packed) if limit is None else part.count_below(limit) for part in stored]
        between = zip(stored, starts, ends, strict=True)
        merged = np.concatenate([part.packed[start:end] for part, start, end in between])
        merged.sort(kind="stable")  # the stable sort merges sorted parts
        for part in stored:
            scratch.release(part.packed)
        yield merged
        starts = ends


def areas_under_curves(ranked: RankedScores, fpr_limits: Sequence[float] = (0.3,)) -> Areas:
    """Return AUROC, average precision, AUPRO and the best F1 of all collected scores.

    Args:
        ranked: the scores; sorted by this call.
        fpr_limits: largest false positive rates that AUPRO integrates to, in (0, 1].

    Returns:
        The areas; all NaN, with a warning, where there is no normal or no anomalous score.
    """
    if not all(0 < limit <= 1 for limit in fpr_limits):
        raise ValueError(f"'fpr_limit' must be in (0, 1], got {', '.join(map(str, fpr_limits))}")
    sizes = ranked.region_size
    regions = sizes > 0
    n_positive = int(sizes.sum())
    pieces = ranked.pieces()
    n_negative = ranked.size - n_positive
    if not n_positive or not n_negative:
        warnings.warn("areas are undefined without both normal and anomalous scores", stacklevel=2)
        return Areas(np.nan, np.nan, (np.nan,) * len(fpr_limits), np.nan, np.nan)
    weights = regions / (np.maximum(sizes, 1) * regions.sum())
    auroc = average_precision = 0.0
    aupro = np.zeros(len(fpr_limits))
    best_f1, f1_threshold = -1.0, np.nan
    point = (0, 0, 0.0)  # FP, TP and PRO at the last threshold
    n_passed, n_found, covered = 0, 0, 0.0  # of all scores so far
    for codes, last, values in pieces:
        found, pro = n_found + np.cumsum(regions[codes]), covered + np.cumsum(weights[codes])
        tp = np.append(point[1], found[last])
        fp = np.append(point[0], n_passed + last + 1 - found[last])
        pro_at = np.append(point[2], pro[last])
        point = (fp[-1], tp[-1], pro_at[-1])
        n_passed, n_found, covered = n_passed + len(codes), found[-1], pro[-1]
        if not len(last):
            continue
        auroc += float(np.sum(np.diff(fp) * (tp[1:] + tp[:-1]) / 2))
        average_precision += float(np.sum(np.diff(tp) * (tp[1:] / (tp[1:] + fp[1:]))))
        aupro += [_area_up_to(fp / n_negative, pro_at, limit) for limit in fpr_limits]
        f1 = 2 * tp[1:] / (n_positive + tp[1:] + fp[1:])
        if f1.max() > best_f1:
            best_f1, f1_threshold = float(f1.max()), just_below(values[f1.argmax()])
    areas = (auroc / (n_negative * n_positive), average_precision / n_positive)
    # sums of many small areas stray by some 1e-15
    auroc, average_precision = np.minimum(areas, 1).tolist()
    return Areas(auroc, average_precision, tuple(np.minimum(aupro / fpr_limits, 1).tolist()), best_f1, f1_threshold)


def just_below(score: np.floating) -> float:
    """Return the largest threshold t in the score's precision with ``score > t``."""
    return float(np.nextafter(score, score.dtype.type(-np.inf)))


def image_areas(scores: Any, labels: Any) -> Areas:
    """AUROC, average precision and the best F1 of image scores; every anomalous image is a region of one pixel.

    Args:
        scores: ``(N,)``, any real type; higher is more anomalous.
        labels: ``(N,)``, boolean or 0 and 1; 1 for anomalous.

    Returns:
        Values in [0, 1], all NaN, with a warning, where there are no normal or no anomalous images.

    Raises:
        ValueError: no scores, NaN or infinity, other labels, or shapes that differ.
    """
    scores, truth = check_labelled(scores, labels)
    (ranks,), values = dense_ranks([scores])
    ranked = RankedScores(len(ranks), values)
    ranked.add(ranks, np.cumsum(truth) * truth)
    return areas_under_curves(ranked)


def dense_ranks(arrays: Sequence[Any]) -> tuple[list[np.ndarray], np.ndarray]:
    """Replace scores of any real type by their ranks, as uint32 of the same shapes; equal scores share a rank.

    Returns:
        The ranks, and the sorted distinct scores as float64. Takes about 40 bytes per score.

    Raises:
        ValueError: a score is NaN or infinite.
    """
    arrays = [as_array(array) for array in arrays]
    flat = np.concatenate([array.ravel() for array in arrays])
    check_finite(flat, "scores")
    values, ranks = np.unique(flat, return_inverse=True)
    pieces = np.split(ranks.astype(np.uint32), np.cumsum([array.size for array in arrays])[:-1])
    ranked = [piece.reshape(array.shape) for piece, array in zip(pieces, arrays, strict=True)]
    return ranked, values.astype(np.float64)


def _ascending_keys(scores: np.ndarray) -> np.ndarray:
    """32-bit keys in the order of the floats."""
    values = scores.astype(np.float32)
    check_finite(values, "scores")
    bits = (values + np.float32(0)).view(np.uint32)  # adding 0 turns -0.0 into 0.0
    return np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31))


def _floats(keys: np.ndarray) -> np.ndarray:
    """Inverse of ``_ascending_keys``."""
    return np.where(keys >> 31, keys & np.uint32((1 << 31) - 1), ~keys).view(np.float32)


def _area_up_to(x: np.ndarray, y: np.ndarray, limit: float) -> float:
    """Area under the polygon for ``x`` up to ``limit``, linear at the limit; ``x`` does not decrease."""
    if x[0] >= limit:
        return 0.0
    inside = int(np.searchsorted(x, limit, side="right"))
    area = float(np.sum(np.diff(x[:inside]) * (y[1:inside] + y[: inside - 1]) / 2))
    if inside < len(x):
        share = (limit - x[inside - 1]) / (x[inside] - x[inside - 1])
        y_limit = y[inside - 1] + share * (y[inside] - y[inside - 1])
        area += (limit - x[inside - 1]) * (y[inside - 1] + y_limit) / 2
    return area

"""The AUPRO of other code bases, to explain numbers printed elsewhere.

None of these is the AUPRO of this package; :mod:`nfbench.metrics._ranking` defines that. Each mode returns what
its original gives on the same maps, up to rounding. What all of them share with the definition: regions are 8-connected
components of each image's mask, the FPR counts the normal pixels of all images, and PRO is the unweighted mean over
regions. What differs:

=================== ================================ ======= ====================== ===============================
mode                thresholds                       above   FPR range              divided by
=================== ================================ ======= ====================== ===============================
cflow_1000_linear   1000 equal steps of the score    ``>``   <= limit, cut          largest sampled FPR
linear_200          200 equal steps of the score     ``>``   < limit, cut           largest sampled FPR
anomalib_v1         all scores, per region           ``>=``  <= limit, resampled    end of the averaged FPR
mvtec3d_100         100 equal steps of normal ranks  ``>``   <= limit, interpolated the limit
=================== ================================ ======= ====================== ===============================

The first two depend on the scale of the scores: a monotone map of the scores changes them. Cost: one sort of all
scores; ``anomalib_v1`` makes one pass over the normal scores within the limit for each region.
"""

import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy import ndimage
from scipy.special import expit

from nfbench.metrics._inputs import check_pairs, label_regions

__all__ = ["MODES", "legacy_aupro"]

_EIGHT_CONNECTED = np.ones((3, 3), dtype=bool)
_FLOAT32_EPSILON = float(np.finfo(np.float32).eps)

Images = Sequence[np.ndarray]


def _cflow_1000_linear(maps: Images, masks: Images, fpr_limit: float) -> float:
    """CFLOW-AD (gudovskiy/cflow-ad, train.py), taken over by BGAD (utils/utils.py) and SANFlow (train.py).

    The thresholds step from the highest score down, without the lowest. Deviations from the definition: holes of a
    region count as covered when they score high, while the region's own size divides, so PRO can exceed 1; the last
    point within the limit ends the curve, and its FPR, rather than the limit, is the divisor; 1000 steps of the score
    are coarse where scores have a heavy tail.
    """
    scores = _collect(maps, masks, fill_holes=True)
    low, high = _range(scores)
    thresholds = high - np.arange(1000) * ((high - low) / 1000)
    fpr, pro = _share_above(scores.normal, thresholds), _pro_above(scores, thresholds)
    fpr, pro = fpr[fpr <= fpr_limit], pro[fpr <= fpr_limit]
    # the highest threshold has nothing above it, so that the smallest FPR, which the originals subtract, is 0
    return float(np.trapezoid(pro, fpr) / fpr[-1]) if fpr[-1] > 0 else float("nan")


def _linear_200(maps: Images, masks: Images, fpr_limit: float) -> float:
    """RD4AD (hq-deng/RD4AD, test.py) and Dinomaly (guojiajeremy/Dinomaly, utils.py).

    The thresholds step from the lowest score up, without the highest. Deviations from the definition: the last point
    below the limit ends the curve, and its FPR is the divisor; the curve starts at the sampled point of smallest FPR
    rather than at (0, 0), so that the area left of it is missing; 200 steps of the score are coarse.

    Close relatives, not this number: RD4AD and Dinomaly's one-class evaluation call this with one defective image at a
    time and average, which leaves out good images; ADer (util/metric.py) also subtracts the smallest FPR before it
    divides; SimpleNet (metrics.py) dilates the thresholded map by 5x5 pixels before it measures the overlap.
    """
    scores = _collect(maps, masks)
    low, high = _range(scores)
    step = (high - low) / 200
    if step == 0:
        return float("nan")
    thresholds = np.arange(low, high, step)[::-1]
    fpr, pro = _share_above(scores.normal, thresholds), _pro_above(scores, thresholds)
    fpr, pro = fpr[fpr < fpr_limit], pro[fpr < fpr_limit]
    return float(np.trapezoid(pro, fpr) / fpr[-1]) if len(fpr) > 1 and fpr[-1] > 0 else float("nan")


def _anomalib_v1(maps: Images, masks: Images, fpr_limit: float) -> float:
    """The AUPRO of anomalib up to 2.2 (src/anomalib/metrics/aupro.py), and of U-Flow (mtailanian/uflow, src/aupro.py).

    Every region has a ROC curve of its own against all normal scores. The curves are resampled over the *index* of
    their points to as many points as the ROC curve of all pixels has within the limit, then FPR and TPR are averaged.
    Deviations from the definition: equal index is not equal FPR, so that averaging mixes points of different FPR; the
    divisor is the last averaged FPR. It is the limit where normal scores differ; where they are tied, the curve runs
    beyond the limit before it ends there, and the result can exceed 1. As in torchmetrics, scores pass a float32
    sigmoid unless all are in [0, 1]; it merges large scores.

    Not reproduced: the originals' float32 sums (about 1e-6), and U-Flow's error where the averaged FPR decreases at
    its end, which anomalib sorts as is done here.
    """
    scores = _collect(maps, masks, dtype=np.float32)
    as_they_are, squashed = (_normal_levels(normal, fpr_limit) for normal in (scores.normal, expit(scores.normal)))

    def curve(anomalous: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if min(anomalous[0], scores.normal[0]) < 0 or max(anomalous[-1], scores.normal[-1]) > 1:
            return _roc_to_limit(squashed, np.sort(expit(anomalous)))
        return _roc_to_limit(as_they_are, anomalous)

    fpr_of_all, _ = curve(np.sort(np.concatenate(scores.regions)))
    n_points = int(np.count_nonzero(fpr_of_all <= fpr_limit))
    curves = np.zeros((2, n_points))
    for region in scores.regions:
        curves += _resample(*curve(region), n_points, fpr_limit)
    fpr, pro = curves / len(scores.regions)
    order = np.argsort(fpr, kind="stable")
    return float(np.trapezoid(pro[order], fpr[order]) / fpr[-1]) if fpr[-1] > 0 else float("nan")


def _mvtec3d_100(maps: Images, masks: Images, fpr_limit: float) -> float:
    """The official evaluation of MVTec 3D-AD (au_pro_util.py in 3D-ADS and M3DM, metric/mvtec3d/au_pro.py in open-iad).

    Thresholds are the normal scores at 100 equidistant ranks, lowest and highest included; the point (1, 1) is added.
    Deviations from the definition: the curve is linear between the 100 points, which loses area where it is concave;
    FPR is the rank of a threshold, so that normal scores tied with it may count as above it, and anomalous ones do not.
    """
    scores = _collect(maps, masks)
    ranks = np.linspace(0, scores.normal.size - 1, num=100, dtype=int)[::-1]
    fpr = np.append(1 - (ranks + 1) / scores.normal.size, 1.0)
    pro = np.append(_pro_above(scores, scores.normal[ranks]), 1.0)
    inside = fpr <= fpr_limit
    x = np.append(fpr[inside], fpr_limit)
    y = np.append(pro[inside], np.interp(fpr_limit, fpr, pro))
    return float(np.trapezoid(y, x) / fpr_limit)


MODES: dict[str, Callable[[Images, Images, float], float]] = {
    "cflow_1000_linear": _cflow_1000_linear,
    "linear_200": _linear_200,
    "anomalib_v1": _anomalib_v1,
    "mvtec3d_100": _mvtec3d_100,
}


def legacy_aupro(maps: Images, masks: Images, mode: str, fpr_limit: float = 0.3) -> float:
    """AUPRO as another code base computes it; for comparison with its printed numbers only.

    Args:
        maps: score maps ``(H, W)`` of all images, good ones included; sizes may differ; higher is more anomalous.
        masks: the images' masks, True where anomalous.
        mode: a name in ``MODES``.
        fpr_limit: the false positive rate at which the original cuts the curve, in (0, 1].

    Returns:
        The original's value, which can exceed 1; NaN, with a warning, where it is undefined.

    Raises:
        ValueError: an unknown mode, a limit outside of (0, 1], and as ``nfbench.metrics.pixel_areas``.
    """
    if mode not in MODES:
        raise ValueError(f"'mode' must be one of {', '.join(MODES)}, got {mode!r}")
    if not 0 < fpr_limit <= 1:
        raise ValueError(f"'fpr_limit' must be in (0, 1], got {fpr_limit}")
    maps, masks = check_pairs(maps, masks)
    value = float("nan")
    if any(mask.any() for mask in masks) and not all(mask.all() for mask in masks):
        value = MODES[mode](maps, masks, fpr_limit)
    if np.isnan(value):
        warnings.warn(
            f"AUPRO '{mode}' is undefined without both normal and anomalous pixels, or where its thresholds have no "
            "false positive rate between 0 and the limit",
            stacklevel=2,
        )
    return value


class _Scores(NamedTuple):
    """Sorted scores of all normal pixels and of each region, and the number of pixels of each region."""

    normal: np.ndarray
    regions: list[np.ndarray]
    sizes: list[int]


def _collect(maps: Images, masks: Images, dtype: type = np.float64, fill_holes: bool = False) -> _Scores:
    """Scores by region; with ``fill_holes``, those of a region's holes belong to it, but do not add to its size."""
    normal, regions, sizes = [], [], []
    for score_map, mask in zip(maps, masks, strict=True):
        scores: np.ndarray = np.asarray(score_map, dtype=dtype)
        normal.append(scores[~mask])
        labels = label_regions(mask)
        for number, box in enumerate(ndimage.find_objects(labels), start=1):
            region = labels[box] == number
            sizes.append(int(np.count_nonzero(region)))
            if fill_holes:
                # a gap that touches the outside only at a corner is not a hole, as in scikit-image's filled image
                region = ndimage.binary_fill_holes(region, _EIGHT_CONNECTED)
            regions.append(np.sort(scores[box][region]))
    return _Scores(np.sort(np.concatenate(normal)), regions, sizes)


def _range(scores: _Scores) -> tuple[float, float]:
    """Return the lowest and highest score of all pixels."""
    low = min(scores.normal[0], *(region[0] for region in scores.regions))
    high = max(scores.normal[-1], *(region[-1] for region in scores.regions))
    return float(low), float(high)


def _share_above(ascending: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    return (ascending.size - np.searchsorted(ascending, thresholds, side="right")) / ascending.size


def _pro_above(scores: _Scores, thresholds: np.ndarray) -> np.ndarray:
    """Mean over regions of the pixels above each threshold per pixel of the region."""
    total = np.zeros(len(thresholds))
    for region, size in zip(scores.regions, scores.sizes, strict=True):
        total += _share_above(region, thresholds) * (region.size / size)
    return total / len(scores.regions)


class _Levels(NamedTuple):
    """Distinct normal scores, ascending, from the first beyond the FPR limit on; FPR at each; the next lower score."""

    scores: np.ndarray
    fpr: np.ndarray
    below: float


def _normal_levels(normal: np.ndarray, fpr_limit: float) -> _Levels:
    scores, counts = np.unique(normal, return_counts=True)
    fpr = np.cumsum(counts[::-1])[::-1] / normal.size
    start = max(len(scores) - int(np.count_nonzero(fpr <= fpr_limit)) - 1, 0)
    return _Levels(scores[start:], fpr[start:], float(scores[start - 1]) if start else -np.inf)


def _roc_to_limit(levels: _Levels, anomalous: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """FPR and TPR at all distinct scores, from (0, 0) to the last score whose FPR is the first beyond the limit."""
    own = np.unique(anomalous[anomalous > levels.below])
    own = own[~np.isin(own, levels.scores)]
    places = np.searchsorted(levels.scores, own)
    scores = np.insert(levels.scores, places, own)
    fpr = np.insert(levels.fpr, places, np.append(levels.fpr, 0.0)[places])
    tpr = 1 - np.searchsorted(anomalous, scores) / anomalous.size
    return np.append(0.0, fpr[::-1]), np.append(0.0, tpr[::-1])


def _resample(fpr: np.ndarray, tpr: np.ndarray, n_points: int, fpr_limit: float) -> tuple[np.ndarray, np.ndarray]:
    """The curve up to the limit at ``n_points`` places that are equidistant in the index of its points."""
    end = fpr_limit if fpr[fpr <= fpr_limit][-1] > 0 else fpr[fpr > fpr_limit][0]
    index = np.flatnonzero(fpr <= end)
    targets = np.arange(n_points, dtype=float)
    stops_short = not np.isclose(fpr[index[-1]], fpr_limit)
    if stops_short:
        beyond = int(np.searchsorted(fpr, fpr_limit))
        index = np.append(index, beyond)
    places = index / index.max() * (n_points - 1)
    if stops_short:
        share = 1 - (fpr[beyond] - fpr_limit) / (fpr[beyond] - fpr[beyond - 1])
        targets[-1] = places[-2] + share * (places[-1] - places[-2])
    left = np.clip(np.searchsorted(places, targets) - 1, 0, len(places) - 2)
    # the epsilon matters for repeated points: their slope is then 0 rather than undefined
    run = (targets - places[left]) / (np.diff(places)[left] + _FLOAT32_EPSILON)
    resampled = [values[index][left] + run * np.diff(values[index])[left] for values in (fpr, tpr)]
    return resampled[0], resampled[1]

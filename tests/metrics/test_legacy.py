"""AUPRO of other code bases: slow loops from their definitions, what makes them legacy, undefined and illegal input."""

import bisect

import numpy as np
import pytest
from scipy.special import expit
from skimage import measure
from sklearn.metrics import auc, roc_curve

from nfbench.metrics._legacy import MODES, legacy_aupro

pytestmark = pytest.mark.slow


def regions_of(mask):
    return measure.regionprops(measure.label(mask, connectivity=2))


def normal_scores(maps, masks):
    return np.concatenate([score_map[~mask] for score_map, mask in zip(maps, masks, strict=True)])


def region_scores(maps, masks):
    pairs = zip(maps, masks, strict=True)
    return [score_map[tuple(region.coords.T)] for score_map, mask in pairs for region in regions_of(mask)]


def extremes(maps):
    return min(float(score_map.min()) for score_map in maps), max(float(score_map.max()) for score_map in maps)


def slow_cflow(maps, masks, limit):
    low, high = extremes(maps)
    delta = (high - low) / 1000
    filled = [
        (score_map[region.slice][region.image_filled], region.area)
        for score_map, mask in zip(maps, masks, strict=True)
        for region in regions_of(mask)
    ]
    points = []
    for step in range(1000):
        threshold = high - step * delta
        fpr = (normal_scores(maps, masks) > threshold).mean()
        if fpr <= limit:
            points.append((fpr, np.mean([(scores > threshold).sum() / area for scores, area in filled])))
    fpr, pro = np.array(points).T
    return auc((fpr - fpr.min()) / (fpr.max() - fpr.min()), pro)


def slow_linear(maps, masks, limit):
    low, high = extremes(maps)
    points = []
    for threshold in np.arange(low, high, (high - low) / 200):
        fpr = (normal_scores(maps, masks) > threshold).mean()
        if fpr < limit:
            points.append((fpr, np.mean([(scores > threshold).mean() for scores in region_scores(maps, masks)])))
    fpr, pro = np.array(points).T
    return auc(fpr / fpr.max(), pro)


def sklearn_roc(scores, labels):
    squashed = scores if ((scores >= 0) & (scores <= 1)).all() else expit(scores)
    return roc_curve(labels, squashed, drop_intermediate=False)[:2]


def torchmetrics_roc(scores, labels):
    torch = pytest.importorskip("torch")
    functional = pytest.importorskip("torchmetrics.functional.classification", reason="torchmetrics is not installed")
    fpr, tpr, _ = functional.binary_roc(torch.from_numpy(scores), torch.from_numpy(labels.astype(int)))
    return fpr.numpy(), tpr.numpy()


def slow_anomalib_v1(maps, masks, limit, roc=sklearn_roc):
    normal, anomalous = normal_scores(maps, masks), region_scores(maps, masks)

    def curve(*positives):
        positive = np.concatenate(positives)
        labels = np.append(np.zeros(len(normal)), np.ones(len(positive)))
        return roc(np.append(normal, positive), labels)

    n_points = int((curve(*anomalous)[0] <= limit).sum())
    resampled = [slow_resample(*curve(scores), n_points, limit) for scores in anomalous]
    fpr, pro = np.mean(resampled, axis=0)
    return np.trapezoid(pro[np.argsort(fpr, kind="stable")], np.sort(fpr)) / fpr[-1]


def slow_resample(fpr, tpr, n_points, limit):
    """FPR and TPR at ``n_points`` places of the index, one by one."""
    end = limit if fpr[fpr <= limit].max() > 0 else fpr[fpr > limit].min()
    kept = [i for i in range(len(fpr)) if fpr[i] <= end]
    targets = [float(i) for i in range(n_points)]
    share = None
    if abs(fpr[kept[-1]] - limit) > 1e-8 + 1e-5 * limit:
        beyond = bisect.bisect_left(fpr.tolist(), limit)
        share = 1 - (fpr[beyond] - limit) / (fpr[beyond] - fpr[beyond - 1])
        kept.append(beyond)
    places = [i / max(kept) * (n_points - 1) for i in kept]
    if share is not None:
        targets[-1] = places[-2] + (places[-1] - places[-2]) * share
    points = []
    for target in targets:
        left = min(max(bisect.bisect_left(places, target) - 1, 0), len(places) - 2)
        run = (target - places[left]) / (places[left + 1] - places[left] + 2**-23)
        points.append([curve[kept[left]] + run * (curve[kept[left + 1]] - curve[kept[left]]) for curve in (fpr, tpr)])
    return np.array(points).T


def slow_mvtec3d(maps, masks, limit):
    normal = np.sort(normal_scores(maps, masks))
    points = [(1.0, 1.0)]
    for rank in np.linspace(0, len(normal) - 1, 100).astype(int):
        overlaps = [(scores > normal[rank]).mean() for scores in region_scores(maps, masks)]
        points.append((1 - (rank + 1) / len(normal), np.mean(overlaps)))
    area = 0.0
    for (left, low), (right, high) in zip(points[:0:-1], points[-2::-1], strict=True):
        if left < limit and left < right:
            stop = min(right, limit)
            area += (stop - left) * (low + low + (high - low) * (stop - left) / (right - left)) / 2
    return area / limit


def exact_aupro(maps, masks, limit=0.3):
    """The official definition, threshold by threshold."""
    normal, anomalous = normal_scores(maps, masks), region_scores(maps, masks)
    thresholds = np.unique(np.concatenate([normal, *anomalous]))[::-1]
    fpr = np.array([0.0] + [(normal >= threshold).mean() for threshold in thresholds])
    pro = [0.0] + [np.mean([(scores >= threshold).mean() for scores in anomalous]) for threshold in thresholds]
    end = int((fpr <= limit).sum())
    area = np.trapezoid(pro[:end], fpr[:end])
    if end < len(fpr):
        area += (limit - fpr[end - 1]) * (pro[end - 1] + np.interp(limit, fpr, pro)) / 2
    return area / limit


SLOW = {
    "cflow_1000_linear": slow_cflow,
    "linear_200": slow_linear,
    "anomalib_v1": slow_anomalib_v1,
    "mvtec3d_100": slow_mvtec3d,
}


def rectangles(rng, shape):
    mask = np.zeros(shape, dtype=bool)
    for row, column, height, width in rng.integers([0, 0, 1, 1], [*np.subtract(shape, 7), 7, 7], size=(3, 4)):
        mask[row : row + height, column : column + width] = True
    return mask


def rings(shape):
    """A closed ring with an island inside, and one with a gap that touches the outside at a corner only."""
    mask = np.zeros(shape, dtype=bool)
    mask[1:11, 1:11] = True
    mask[3:9, 3:9] = False
    mask[5, 5] = True
    mask[12:19, 12:19] = True
    mask[13:18, 13:18] = False
    mask[12, 12] = False
    return mask


def make_maps(seed=0, shapes=((20, 22),) * 4, ring=False, lift=1.5):
    """Gaussian maps, higher on and inside defects; the last image is good."""
    rng = np.random.default_rng(seed)
    masks = [rings(shape) if ring else rectangles(rng, shape) for shape in shapes[:-1]]
    masks.append(np.zeros(shapes[-1], dtype=bool))
    maps = []
    for mask in masks:
        inside = mask.copy()
        for region in regions_of(mask):
            inside[region.slice] |= region.image_filled
        maps.append((rng.normal(size=mask.shape) + lift * inside).astype(np.float32))
    return maps, masks


def transformed(function, **options):
    maps, masks = make_maps(**options)
    return [function(score_map).astype(np.float32) for score_map in maps], masks


def tied_normal_scores():
    """More normal pixels than the limit share the highest normal score; some anomalous ones are right below it."""
    maps, masks = make_maps()
    return [np.where(mask | (x < 0.1), x, np.float32(0.2)) for x, mask in zip(maps, masks, strict=True)], masks


CASES = {
    "gaussian": make_maps,
    "probabilities": lambda: transformed(expit),
    "strong": lambda: make_maps(lift=4.0),
    "saturated": lambda: transformed(lambda x: np.clip(x / 6 + 0.5, 0.3, 0.85)),
    "saturated_beyond_limit": lambda: transformed(lambda x: np.clip(x, -3.0, 1.0), lift=0.2),
    "heavy_tail": lambda: transformed(lambda x: np.exp(3 * x)),
    "ties": lambda: transformed(lambda x: np.round(x, 1)),
    "tied_normal": tied_normal_scores,
    "few_levels": lambda: transformed(np.round),
    "rings": lambda: make_maps(ring=True),
    "sizes": lambda: make_maps(shapes=((12, 30), (25, 9), (9, 9), (14, 17))),
}


def slow_value(mode, maps, masks, limit):
    try:
        return SLOW[mode](maps, masks, limit)
    except ValueError:  # fewer than two points, or 0 / 0, reach scikit-learn's area: the originals end there
        return float("nan")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("limit", [0.3, 0.08, 1.0])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("mode", MODES)
def test_mode_equals_its_slow_loop(mode, case, limit):
    maps, masks = CASES[case]()
    expected = slow_value(mode, maps, masks, limit)
    # the original's places are not sorted there, and where a binary search ends in them is its own affair
    tolerance = 1e-9 if (mode, case) == ("anomalib_v1", "tied_normal") else 1e-12
    assert legacy_aupro(maps, masks, mode, limit) == pytest.approx(expected, abs=tolerance, nan_ok=True)


@pytest.mark.parametrize("case", CASES)
def test_anomalib_v1_uses_the_roc_of_torchmetrics(case):
    maps, masks = CASES[case]()
    expected = slow_anomalib_v1(maps, masks, 0.3, roc=torchmetrics_roc)
    assert legacy_aupro(maps, masks, "anomalib_v1") == pytest.approx(expected, abs=1e-5)


def test_maps_may_be_double_precision():
    maps, masks = make_maps()
    doubles = [score_map.astype(np.float64) for score_map in maps]
    for mode in MODES:
        assert legacy_aupro(doubles, masks, mode) == legacy_aupro(maps, masks, mode)


def test_all_modes_are_near_the_definition_on_gaussian_maps():
    maps, masks = make_maps(shapes=((40, 40),) * 3)
    for mode in MODES:
        assert legacy_aupro(maps, masks, mode) == pytest.approx(exact_aupro(maps, masks), abs=0.03), mode


def test_heavy_tail_moves_linear_steps_but_not_ranks():
    maps, masks = make_maps(shapes=((40, 40),) * 3, lift=2.5)
    heavy = [np.exp(4 * score_map.astype(np.float64)) for score_map in maps]
    moved = {mode: legacy_aupro(heavy, masks, mode) - legacy_aupro(maps, masks, mode) for mode in MODES}
    assert moved["cflow_1000_linear"] < -0.1
    assert moved["linear_200"] < -0.1
    assert moved["mvtec3d_100"] == 0


def test_a_shift_moves_anomalib_v1_through_the_sigmoid():
    maps, masks = transformed(expit)
    shifted = [score_map + np.float32(20) for score_map in maps]
    assert abs(legacy_aupro(shifted, masks, "mvtec3d_100") - legacy_aupro(maps, masks, "mvtec3d_100")) < 1e-3
    with pytest.warns(UserWarning, match="'anomalib_v1' is undefined"):
        assert np.isnan(legacy_aupro(shifted, masks, "anomalib_v1"))


def test_holes_lift_cflow_above_the_definition():
    maps, masks = make_maps(ring=True, lift=4.0)
    assert legacy_aupro(maps, masks, "cflow_1000_linear") > 1
    assert exact_aupro(maps, masks) < 0.9
    assert legacy_aupro(maps, masks, "linear_200") < 0.9


def test_tied_normal_scores_lift_anomalib_v1_above_one():
    rng = np.random.default_rng(0)
    masks = [np.zeros((32, 32), dtype=bool) for _ in range(2)]
    maps = []
    for mask in masks:
        mask[3:9, 20:26] = True
        maps.append(np.where(mask, 0.5 + rng.random(mask.shape) / 2, 0.25 * (rng.random(mask.shape) < 0.2)))
    assert exact_aupro(maps, masks) == pytest.approx(1)
    assert legacy_aupro(maps, masks, "anomalib_v1") > 1.1


def test_unknown_mode_names_the_modes():
    maps, masks = make_maps()
    with pytest.raises(ValueError, match="cflow_1000_linear, linear_200, anomalib_v1, mvtec3d_100, got 'cflow'"):
        legacy_aupro(maps, masks, "cflow")


@pytest.mark.parametrize("limit", [0.0, -0.1, 1.1, float("nan")])
def test_limit_outside_of_the_unit_interval_is_an_error(limit):
    with pytest.raises(ValueError, match="'fpr_limit' must be in"):
        legacy_aupro(*make_maps(), "linear_200", limit)


def test_maps_and_masks_that_do_not_match_are_errors():
    maps, masks = make_maps()
    with pytest.raises(ValueError, match=r"'masks' must have as many images as 'maps' \(4\), got 3"):
        legacy_aupro(maps, masks[:-1], "linear_200")
    with pytest.raises(ValueError, match="image 1: the mask has shape"):
        legacy_aupro(maps, [masks[0], masks[1].T, *masks[2:]], "linear_200")
    with pytest.raises(ValueError, match=r"must have shape \(H, W\)"):
        legacy_aupro(np.stack(maps)[:, None], np.stack(masks)[:, None], "linear_200")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_scores_that_are_not_finite_are_an_error(value):
    maps, masks = make_maps()
    maps[2][0, 0] = value
    with pytest.raises(ValueError, match="finite, image 2"):
        legacy_aupro(maps, masks, "mvtec3d_100")


@pytest.mark.parametrize("anomalous", [False, True], ids=["no_region", "no_normal_pixel"])
@pytest.mark.parametrize("mode", MODES)
def test_one_class_only_is_undefined(mode, anomalous):
    maps, masks = make_maps()
    with pytest.warns(UserWarning, match=f"'{mode}' is undefined without both"):
        assert np.isnan(legacy_aupro(maps, [np.full_like(mask, anomalous) for mask in masks], mode))


@pytest.mark.parametrize("mode", ["cflow_1000_linear", "linear_200", "anomalib_v1"])
def test_constant_scores_are_undefined_where_the_original_divides_by_zero(mode):
    maps, masks = make_maps()
    with pytest.warns(UserWarning, match="no false positive rate between 0 and the limit"):
        assert np.isnan(legacy_aupro([np.ones_like(score_map) for score_map in maps], masks, mode))

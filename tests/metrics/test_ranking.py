"""AUROC, AP and AUPRO: slow definitions, scikit-learn, anomalib, invariances, undefined input."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from sklearn.metrics import average_precision_score, roc_auc_score

from nfbench.metrics import _ranking as ranking
from nfbench.metrics._ranking import RankedScores, areas_under_curves, image_areas


def slow_aupro(scores: np.ndarray, regions: list[np.ndarray], normal: np.ndarray, limit: float) -> float:
    """AUPRO threshold by threshold, from the definition."""
    fpr, pro = [0.0], [0.0]
    for threshold in np.unique(scores)[::-1]:
        above = scores >= threshold
        fpr.append(above[normal].mean())
        pro.append(np.mean([above[region].mean() for region in regions]))
    # at equal FPR the curve takes its last PRO, and its vertical parts have no area
    area = 0.0
    for left, right, low, high in zip(fpr, fpr[1:], pro, pro[1:], strict=False):
        if left >= limit or right == left:
            continue
        stop = min(right, limit)
        area += (stop - left) * (low + low + (high - low) * (stop - left) / (right - left)) / 2
    return area / limit


def make_maps(seed: int, decimals: int = 8, n_images: int = 6, size: int = 24):
    rng = np.random.default_rng(seed)
    labels = np.zeros((n_images, size, size), dtype=int)
    for image in labels[: n_images // 2]:
        for _ in range(rng.integers(1, 4)):
            row, column, height, width = rng.integers(0, size - 6, 2).tolist() + rng.integers(1, 6, 2).tolist()
            image[row : row + height, column : column + width] = 1
    regions = np.array([ndimage.label(image, np.ones((3, 3)))[0] for image in labels])
    scores = np.round(rng.normal(size=labels.shape) + 1.2 * labels * rng.random(labels.shape), decimals)
    return scores.astype(np.float32), regions


def ranked(scores, regions):
    collected = RankedScores(scores.size)
    for score_map, region_map in zip(scores, regions, strict=True):
        collected.add(score_map, region_map)
    return collected


def masks_of(regions):
    """A mask over all images for each region."""
    for image, region_map in enumerate(regions):
        for number in range(1, region_map.max() + 1):
            mask = np.zeros(regions.shape, dtype=bool)
            mask[image] = region_map == number
            yield mask


@pytest.mark.parametrize("limit", [0.05, 0.3, 1.0])
@pytest.mark.parametrize("decimals", [0, 1, 8])
@pytest.mark.parametrize("chunk", [1 << 22, 100, 1])
def test_areas_agree_with_their_definitions(monkeypatch, chunk, decimals, limit):
    monkeypatch.setattr(ranking, "_CHUNK", chunk)
    scores, regions = make_maps(seed=decimals, decimals=decimals, n_images=4 if chunk < 1000 else 6)
    areas = areas_under_curves(ranked(scores, regions), (limit,))
    labels = (regions > 0).ravel()
    assert areas.auroc == pytest.approx(roc_auc_score(labels, scores.ravel()), abs=1e-12)
    assert areas.average_precision == pytest.approx(average_precision_score(labels, scores.ravel()), abs=1e-12)
    expected = slow_aupro(scores, list(masks_of(regions)), regions == 0, limit)
    assert areas.aupro[0] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_aupro_agrees_with_anomalib(seed):
    aupro = pytest.importorskip("anomalib.metrics.aupro", reason="anomalib is not installed")
    scores, regions = make_maps(seed)
    metric = aupro._AUPRO(fpr_limit=0.3)
    metric.update(torch.from_numpy(scores), torch.from_numpy((regions > 0).astype(int)))
    assert areas_under_curves(ranked(scores, regions)).aupro[0] == pytest.approx(float(metric.compute()), abs=1e-5)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1000),
    transform=st.sampled_from([np.exp, np.arctan, lambda x: x**3, lambda x: 7 * x - 3, lambda x: np.exp(2 * x)]),
)
def test_areas_do_not_move_under_increasing_maps(seed, transform):
    scores, regions = make_maps(seed, decimals=2)
    moved = transform(scores.astype(np.float64)).astype(np.float32)
    assert len(np.unique(moved)) == len(np.unique(scores))  # strictly increasing also in float32
    assert areas_under_curves(ranked(moved, regions))[:4] == areas_under_curves(ranked(scores, regions))[:4]


def test_areas_do_not_depend_on_the_order_of_images():
    scores, regions = make_maps(0)
    order = [3, 1, 5, 0, 2, 4]
    first = areas_under_curves(ranked(scores, regions))
    second = areas_under_curves(ranked(scores[order], regions[order]))
    assert np.hstack(second) == pytest.approx(np.hstack(first), abs=1e-12)


def test_known_answers():
    perfect = image_areas(np.array([0.1, 0.2, 0.9, 0.8]), np.array([0, 0, 1, 1]))
    assert (perfect.auroc, perfect.average_precision) == (1.0, 1.0)
    constant = image_areas(np.zeros(4), np.array([0, 0, 1, 1]))
    assert (constant.auroc, constant.average_precision) == (0.5, 0.5)
    worst = image_areas(np.array([0.9, 0.8, 0.1, 0.2]), np.array([0, 0, 1, 1]))
    assert worst.auroc == 0.0


def test_zeros_of_both_signs_are_one_threshold():
    assert image_areas(np.array([0.0, -0.0]), np.array([1, 0])).auroc == 0.5


def test_perfect_map_has_aupro_one():
    _, regions = make_maps(0)
    assert areas_under_curves(ranked((regions > 0).astype(np.float32), regions)).aupro[0] == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_is_undefined(label):
    with pytest.warns(UserWarning, match="undefined without both"):
        areas = image_areas(np.arange(3.0), np.full(3, label))
    assert np.isnan(np.hstack(areas)).all()


def test_bad_input_is_refused():
    collected = RankedScores(4)
    with pytest.raises(ValueError, match="must be finite"):
        collected.add(np.array([1, np.nan]), np.array([0, 0]))
    with pytest.raises(ValueError, match="as many entries"):
        collected.add(np.zeros(2), np.zeros(3, dtype=int))
    collected.add(np.zeros(2), np.zeros(2, dtype=int))
    with pytest.raises(ValueError, match="expected 4 scores, got 2"):
        areas_under_curves(collected)

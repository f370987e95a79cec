"""F1 at thresholds from normal images, of images and pixels: worked examples, aggregations, scikit-learn."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from nfbench.metrics import find_metric
from nfbench.metrics._f1 import image_f1
from nfbench.metrics._pixel import rank
from nfbench.metrics._tails import NormalScores
from nfbench.scoring.evaluate import ScoredSet
from nfbench.scoring.maps import ScoredImages
from nfbench.scoring.rates import pixel_counts

NORMAL = np.arange(1, 20, dtype=np.float32)
"""Scores of 19 calibration images."""
SIZE = (12, 12)


class Truth:
    """Labels and masks at the size of the maps."""

    has_masks = True

    def __init__(self, labels, masks):
        self.labels, self._masks = np.array(labels), masks

    def rank(self, maps, folder=None):
        return rank(list(maps), self._masks)

    def resized(self, maps):
        yield from maps

    def masks(self):
        return self._masks


def scored(scores, labels, maps=None, masks=(), normal=NORMAL):
    """A test set with these image scores, and calibration maps of one pixel each."""
    maps = np.array(scores, np.float32).reshape(-1, 1, 1) if maps is None else maps
    images = {"paper": np.array(scores, float), "max": np.array(maps).max((1, 2))}
    calibration = NormalScores.of_maps(normal.reshape(-1, 1, 1))
    return ScoredSet(ScoredImages(maps, images), Truth(labels, masks), lambda: calibration, {})


def value(name, test):
    named = find_metric(name)
    return named.metric.value(test, named.variant)


@pytest.mark.parametrize("name", ["image_f1_fixed", "class_f1"])
@pytest.mark.parametrize(
    ("rule", "threshold", "expected"), [("", 19, 0.6), ("_sigma", 26.431677, 1 / 3), ("_quantile", 18.1, 0.727273)]
)
def test_worked_example_of_images(name, rule, threshold, expected):
    """Decided by the image score, and by the only pixel of a map; pixels have no 95 % quantile, but one of 99.9 %."""
    test = scored([3, 12, 19.5, 20, 18, 19, 21, 25, 30], [0] * 4 + [1] * 5)
    if (name, rule) == ("class_f1", "_quantile"):
        threshold, expected = 18.982, 8 / 11
    assert value(name + rule, test) == pytest.approx(expected, abs=1e-6)
    named = find_metric(name + rule)
    assert named.metric.threshold(test, named.variant) == pytest.approx(threshold, abs=1e-6)


def counted(*images):
    """Maps and masks with these numbers of TP, FP and FN pixels by image; detected ones score 2, others 0."""
    maps, masks = np.zeros((2, len(images), *SIZE))
    for (tp, fp, fn), score_map, mask in zip(images, maps, masks, strict=True):
        score_map.flat[: tp + fp] = 2
        mask.flat[:tp] = mask.flat[tp + fp : tp + fp + fn] = 1
    return maps.astype(np.float32), masks.astype(bool)


def test_worked_example_of_aggregations():
    maps, masks = counted((3, 3, 1), (0, 0, 100), (0, 2, 0), (0, 0, 0))
    test = scored([9, 9, 9, 9], [1, 1, 0, 0], maps, masks, normal=np.ones(19, np.float32))
    values = {name: value(f"seg_f1_{name}", test) for name in ("pooled", "anomalous", "all")}
    assert values == pytest.approx({"pooled": 6 / 112, "anomalous": 0.3, "all": 0.4}, abs=1e-12)
    assert value("class_f1", test) == 0.5
    by_image = find_metric("seg_f1_all").metric.by_image(test, "conformal")
    assert by_image.tolist() == pytest.approx([0.6, 0, 0, 1])


def test_without_a_finite_threshold_nothing_is_detected():
    """The conformal threshold of 5 % needs 19 normal images."""
    maps, masks = counted((3, 3, 1), (0, 0, 0))
    test = scored([9, 9], [1, 0], maps, masks, normal=np.ones(18, np.float32))
    assert math.isinf(test.pixel_threshold("conformal"))
    assert [value(f"seg_f1_{name}", test) for name in ("pooled", "anomalous", "all")] == [0, 0, 0.5]
    assert value("image_f1_fixed", test) == 0


@given(st.integers(0, 2**32 - 1), st.floats(-0.1, 1.1))
def test_agreement_with_scikit_learn(seed, threshold):
    rng = np.random.default_rng(seed)
    shapes = rng.integers(1, 6, (4, 2)).tolist()
    maps, masks = [rng.random(s).astype(np.float32) for s in shapes], [rng.random(s) < 0.3 for s in shapes]
    masks[0][0, 0] = True
    counts = pixel_counts(maps, masks, {"t": threshold})["t"]
    pairs = [(mask.ravel(), score_map.ravel() > threshold) for mask, score_map in zip(masks, maps, strict=True)]
    expected = [f1_score(*pair, zero_division=1.0) for pair in pairs]
    assert counts.f1_by_image() == pytest.approx(expected, abs=1e-12)
    pooled = f1_score(*(np.concatenate(parts) for parts in zip(*pairs, strict=True)))
    assert counts.f1_pooled() == pytest.approx(pooled, abs=1e-12)
    scores, labels = rng.random(9), np.append(rng.integers(0, 2, 8), 1)
    expected = f1_score(labels, scores > threshold, zero_division=0.0)
    assert image_f1(scores, labels, threshold) == pytest.approx(expected, abs=1e-12)


def test_it_is_undefined_without_anomalous_images_or_a_threshold():
    assert math.isnan(image_f1(np.ones(3), np.zeros(3), 0.5))
    assert math.isnan(image_f1(np.ones(3), np.ones(3), math.nan))
    maps, masks = counted((0, 2, 0), (0, 0, 0))
    test = scored([1, 1], [0, 0], maps, masks)
    assert all(math.isnan(value(f"seg_f1_{name}", test)) for name in ("pooled", "anomalous", "all"))


def test_names_say_how_images_are_put_together():
    assert "all pixels together" in find_metric("seg_f1_pooled_sigma").title
    assert "mean plus 3 standard deviations" in find_metric("seg_f1_pooled_sigma").title

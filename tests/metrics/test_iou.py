"""mIoU: its definition threshold by threshold, properties, the fair threshold, bad input."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import jaccard_score, roc_curve

from nfbench.metrics import _ranking as ranking
from nfbench.metrics import fair_threshold, miou, miou_curve, miou_oracle
from nfbench.metrics._iou import AGGREGATIONS, fair_threshold_of
from nfbench.metrics._tails import UpperTail
from tests.metrics.test_pixel import KINDS, make

EPS = np.finfo(np.float64).eps


def slow_miou(maps, masks, threshold, aggregation):
    """Image by image, from the definition."""
    pairs = [(score_map > threshold, mask) for score_map, mask in zip(maps, masks, strict=True)]
    if aggregation == "pooled":
        pairs = [tuple(np.concatenate([array.ravel() for array in arrays]) for arrays in zip(*pairs, strict=True))]
    if aggregation == "anomalous":
        pairs = [pair for pair in pairs if pair[1].any()]
    return np.mean([((found & mask).sum() + EPS) / ((found | mask).sum() + EPS) for found, mask in pairs])


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("chunk", [1 << 20, 700, 1])
def test_oracle_and_curve_are_those_of_all_thresholds(monkeypatch, chunk, kind, aggregation):
    monkeypatch.setattr(ranking, "_CHUNK", chunk)
    maps, masks = make(kind, n_images=4, size=16)
    maps = np.round(maps, 1)
    thresholds = [-np.inf, *np.unique(maps), *(np.unique(maps) + 1e-4)]
    expected = [slow_miou(maps, masks, threshold, aggregation) for threshold in thresholds]
    assert [miou(maps, masks, t, aggregation) for t in thresholds] == pytest.approx(expected, abs=1e-12)
    assert miou_curve(maps, masks, thresholds)[aggregation] == pytest.approx(expected, abs=1e-12)
    oracle = miou_oracle(maps, masks, aggregation)
    assert oracle.miou == pytest.approx(max(expected), abs=1e-12)
    assert miou(maps, masks, oracle.threshold, aggregation) == pytest.approx(oracle.miou, abs=1e-12)


def test_agreement_with_scikit_learn():
    maps, masks = make("gaussian")
    maps, masks = maps[:4], masks[:4]
    expected = [jaccard_score(mask.ravel(), score_map.ravel() > 1) for score_map, mask in zip(maps, masks, strict=True)]
    assert miou(maps, masks, 1.0, "anomalous") == pytest.approx(np.mean(expected), abs=1e-12)


def test_a_good_image_counts_one_without_a_detection_and_nothing_with_one():
    good, mask = np.zeros((8, 8)), np.zeros((8, 8), dtype=bool)
    assert miou([good], [mask], 0.5) == 1.0
    good[0, 0] = 1
    assert miou([good], [mask], 0.5) < 1e-15


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    seed=st.integers(0, 1000),
    transform=st.sampled_from([np.exp, lambda x: x**3, np.arctan]),
    aggregation=st.sampled_from(AGGREGATIONS),
)
def test_bounds_and_invariance(kind, seed, transform, aggregation):
    maps, masks = make(kind, seed, n_images=4, size=16)
    maps = np.round(maps / np.abs(maps).max() * 3, 3)
    thresholds = np.quantile(maps, [0, 0.5, 0.9, 1])
    values = miou_curve(maps, masks, thresholds)[aggregation]
    assert ((values >= 0) & (values <= 1)).all()
    oracle = miou_oracle(maps, masks, aggregation)
    assert oracle.miou >= values.max() - 1e-12
    assert miou_oracle(transform(maps), masks, aggregation).miou == oracle.miou


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), low=st.floats(-2, 2), step=st.floats(0, 2))
def test_a_lower_threshold_detects_more(seed, low, step):
    """Detecting more pixels cannot lower the IoU while all detected pixels are anomalous."""
    maps, masks = make("gaussian", seed, n_images=2, size=16)
    inside = np.where(masks, maps, -10)
    assert miou(inside, masks, low) >= miou(inside, masks, low + step)


def test_fair_threshold_leaves_one_pixel_per_image():
    rng = np.random.default_rng(0)
    maps = [rng.normal(size=(20, 30)) for _ in range(7)]
    threshold = fair_threshold(maps)
    assert sum((score_map > threshold).sum() for score_map in maps) == 7
    assert threshold == np.sort(np.concatenate([score_map.ravel() for score_map in maps]))[-8]
    assert sum((score_map > fair_threshold(maps, 3)).sum() for score_map in maps) == 21


def test_fair_threshold_with_ties_and_with_few_pixels():
    assert (
        fair_threshold([np.array([[1.0, 1.0, 0.0, 0.0]])]) == 1.0
    )  # one pixel of two equal ones cannot be let through
    assert fair_threshold([np.zeros((1, 1))]) == -np.inf


def test_interpolating_a_thinned_roc_curve_is_biased():
    """What the official code does: without positives the thinned curve is a line between the extreme scores."""
    rng = np.random.default_rng(0)
    maps = rng.exponential(size=(10, 64, 64))
    fpr, _, thresholds = roc_curve(np.zeros(maps.size), maps.ravel())
    official = np.interp(1 / 64**2, fpr, thresholds)
    above = (maps > official).sum() / len(maps)
    assert (maps > fair_threshold(maps)).sum() / len(maps) == 1
    assert above <= 0.1


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_threshold_means_the_same_everywhere(dtype):
    """No rounding of the threshold to the type of the scores decides what is detected."""
    maps, masks = make("gaussian", n_images=4, size=16)
    maps = maps.astype(dtype)
    oracle = miou_oracle(maps, masks)
    assert miou(maps, masks, oracle.threshold) == pytest.approx(oracle.miou, abs=1e-12)
    just_below_a_score = float(maps[0, 3, 3]) - 1e-10
    expected = slow_miou(maps.astype(np.float64), masks, just_below_a_score, "all")
    assert miou(maps, masks, just_below_a_score) == pytest.approx(expected, abs=1e-12)
    assert miou(maps, masks, np.float64(just_below_a_score)) == pytest.approx(expected, abs=1e-12)
    assert miou_curve(maps, masks, [just_below_a_score])["all"][0] == pytest.approx(expected, abs=1e-12)


def test_without_anomalous_images():
    maps, masks = np.random.default_rng(0).random((2, 4, 4)), np.zeros((2, 4, 4), dtype=bool)
    assert miou(maps, masks, 0.0) < 1e-15
    assert miou_oracle(maps, masks).miou == 1.0
    with pytest.warns(UserWarning, match="undefined without one"):
        assert np.isnan(miou(maps, masks, 0.5, "anomalous"))


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="'maps' must be finite, image 0"):
        fair_threshold([np.array([[np.nan]])])
    with pytest.raises(ValueError, match="at least one image"):
        fair_threshold([])
    for pixels in (-1, np.nan, np.inf):
        with pytest.raises(ValueError, match="'pixels_per_image' must be at least 0"):
            fair_threshold([np.zeros((2, 2))], pixels)
    with pytest.raises(ValueError, match="'aggregation' must be one of all, anomalous, pooled, got 'mean'"):
        miou_oracle([np.zeros((2, 2))], [np.zeros((2, 2))], "mean")
    with pytest.raises(ValueError, match="a threshold is NaN"):
        miou([np.zeros((2, 2))], [np.zeros((2, 2))], np.nan)
    with pytest.raises(ValueError, match="a mask holds 0 and 1"):
        miou([np.zeros((2, 2))], [np.full((2, 2), 2)], 0.5)


@pytest.mark.parametrize("shape", [(7, 20, 30), (300, 2, 5), (4, 1, 1)])
def test_the_upper_tail_gives_the_fair_threshold_of_all_pixels(shape):
    """Also where there are more images than a thousandth of the pixels, or no more pixels than images."""
    maps = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    tail = UpperTail(len(maps))
    for batch in np.array_split(maps, 3):
        tail = tail.add(batch)
    assert fair_threshold_of(tail) == fair_threshold(maps)
    assert tail.n_pixels == maps.size
    assert len(tail.values) <= max(len(maps), maps.size / 1000) + 2

"""AUPIMO: worked examples, a slow loop over all thresholds, properties, anomalib, undefined and illegal input."""

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nfbench.metrics._aupimo import BOUNDS, aupimo
from nfbench.metrics._levels import FalsePositives
from tests.metrics.test_pixel import KINDS, make

LOW = np.array([[1, 2], [3, 9.0]])
"""Two normal images of different sizes, and an anomalous one with its mask."""
HIGH = np.array([[1, 2, 3, 4], [5, 6, 7, 8.0]])
ANOMALOUS = np.array([[10, 8.5, 6.5, 4.5], [0, 11, 2, 7.5]])
TIED = np.array([[10, 8, 6, 4.5], [0, 11, 2, 7.5]])
MASK = np.array([[1, 1, 1, 1], [0, 0, 0, 0]])


def measured(maps, masks, bounds=BOUNDS):
    """AUPIMO of the anomalous images; bounds below the smallest false positive rate are on purpose here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="no threshold has a false positive rate below")
        values = aupimo(maps, masks, bounds)
    assert np.isnan(values).tolist() == [not np.any(mask) for mask in masks]
    return values[~np.isnan(values)]


def slow_aupimo(maps, masks, bounds):
    """From the definition: all thresholds one by one, a polygon over ln F, cut at the bounds."""
    normal = [score_map for score_map, mask in zip(maps, masks, strict=True) if not mask.any()]
    low, high = map(math.log, bounds)
    found = []
    for score_map, mask in zip(maps, masks, strict=True):
        if not mask.any():
            continue
        area, x, height = 0.0, -math.inf, 0.0
        for threshold in sorted(set(np.concatenate([m.ravel() for m in maps]).tolist()), reverse=True):
            rate = sum(float((image >= threshold).mean()) for image in normal) / len(normal)
            next_x, next_height = math.log(rate) if rate else -math.inf, float((score_map[mask] >= threshold).mean())
            left, right = max(x, low), min(next_x, high)
            if right > left:
                place = 0 if x == -math.inf else ((left + right) / 2 - x) / (next_x - x)
                area += (right - left) * (height + place * (next_height - height))
            x, height = next_x, next_height
        found.append(area / (high - low))
    return np.array(found)


@pytest.mark.parametrize(
    ("bounds", "all_pixels", "highest"),
    [((0.1, 1), 0.55, 1.0), ((1e-3, 1e-1), 0.03025, 0.3025), ((1e-5, 1e-4), 5.5e-5, 5.5e-4)],
)
def test_equal_scores_share_one_point(bounds, all_pixels, highest):
    """The example of the code of the paper; a step rule gives 0.1, 0.0055 and 1e-5 for the first mask."""
    scores = np.repeat([7.0, 6, 5, 4, 3, 2, 1], [10**k - 10**k // 10 for k in range(7)]).reshape(1000, 1000)
    for mask, expected in ((np.ones_like(scores), all_pixels), (scores >= 2, highest)):
        (value,) = measured([scores, scores], [np.zeros_like(scores), mask], bounds)
        assert value == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("anomalous", "bounds", "expected"),
    [
        (ANOMALOUS, (1 / 8, 1 / 2), (0.5 * math.log(2) + 0.75 * math.log(1.5) + math.log(4 / 3)) / math.log(4)),
        (ANOMALOUS, (1 / 8, 1 / 2), 0.6768796874),
        (ANOMALOUS, (0.1, 0.5), 0.6176941490),  # 0.1 is below the smallest rate: recall 1/4 above the largest normal
        (ANOMALOUS, (1 / 4, 5 / 8), 0.8893732377),
        (TIED, (1 / 8, 1 / 2), 0.6201990252),
    ],
)
def test_images_of_all_sizes_count_alike(anomalous, bounds, expected):
    (value,) = measured([LOW, HIGH, anomalous], [np.zeros((2, 2)), np.zeros((2, 4)), MASK], bounds)
    assert value == pytest.approx(expected, abs=1e-10)


def seeded():
    maps = np.random.default_rng(0).standard_normal((7, 256, 256)).astype(np.float32)
    masks = np.zeros(maps.shape, dtype=bool)
    masks[4, 10:18, 20:28] = masks[5, 100:140, 50:90] = masks[6, 200:203, 200:203] = True
    for image, added in ((4, 3.0), (5, 3.5), (6, 5.0)):
        maps[image][masks[image]] += np.float32(added)
    return maps, masks


def test_seeded_images():
    maps, masks = seeded()
    assert measured(maps, masks) == pytest.approx([0.1330593312, 0.3264426735, 0.8305946676], abs=1e-10)
    assert measured(maps[:5, :32, :32], masks[:5, :32, :32]) == pytest.approx([0.390625], abs=1e-12)


def anomalib_values(maps, masks):
    peer = pytest.importorskip("anomalib.metrics.pimo.functional", reason="anomalib is not installed")
    values = peer.aupimo_scores(torch.from_numpy(maps), torch.from_numpy(masks.astype(int)))[4].numpy()
    return values[~np.isnan(values)]


def test_anomalib_divides_by_more_than_the_range_it_covers_at_256_pixels():
    """Its bounds are the nearest rates, 3 and 26 of 262,144 pixels: 0.938 of the range that it divides by."""
    maps, masks = seeded()
    peer = anomalib_values(maps, masks)
    assert peer == pytest.approx([0.126039, 0.309355, 0.781465], abs=2e-6)
    covered = measured(maps, masks, (3 / 262144, 26 / 262144))
    assert peer == pytest.approx(covered * math.log(26 / 3) / math.log(10), abs=1e-3)


def test_agreement_with_anomalib_at_900_pixels():
    rng = np.random.default_rng(1)
    maps = rng.standard_normal((9, 900, 900)).astype(np.float32)
    masks = np.zeros(maps.shape, dtype=bool)
    masks[6, 100:200, 300:420] = masks[7, 500:520, 40:90] = masks[8, 700:860, 10:30] = True
    maps[masks] += np.float32(3.6)
    exact = measured(maps, masks)
    assert exact.min() > 0.2
    assert exact.max() < 0.6
    assert anomalib_values(maps, masks) == pytest.approx(exact, rel=0.01)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("bounds", [(1e-3, 1e-1), (0.02, 0.5), (1e-5, 1e-4), (0.3, 1)])
@pytest.mark.parametrize("kind", KINDS)
def test_agreement_with_a_loop_over_all_thresholds(kind, bounds, dtype):
    maps, masks = make(kind, n_images=4, size=16)
    maps = np.round(maps.clip(max=6e4), 1).astype(dtype)  # what float16 holds
    maps, masks = [*maps[:3], maps[3][:9, :13]], [*masks[:3], masks[3][:9, :13]]
    assert measured(maps, masks, bounds) == pytest.approx(slow_aupimo(maps, masks, bounds), abs=1e-10)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    levels=st.integers(1, 30),
    bounds=st.tuples(st.floats(1e-3, 0.2), st.floats(0.25, 1)),
)
def test_agreement_with_the_loop_on_images_of_all_sizes(seed, levels, bounds):
    rng = np.random.default_rng(seed)
    shapes = rng.integers(1, 9, (5, 2)).tolist()
    maps = [rng.integers(0, levels, shape).astype(float) for shape in shapes]
    masks = [rng.random(shape) < (0.4 if number > 2 else 0) for number, shape in enumerate(shapes)]
    masks[4][0, 0] = True
    order = rng.permutation(5)
    maps, masks = [maps[n] for n in order], [masks[n] for n in order]
    assert measured(maps, masks, bounds) == pytest.approx(slow_aupimo(maps, masks, bounds), abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    seed=st.integers(0, 1000),
    transform=st.sampled_from([np.exp, lambda x: x**3, np.arctan, lambda x: 5 * x - 2]),
    bounds=st.sampled_from([BOUNDS, (1e-3, 1e-1), (0.1, 1)]),
)
def test_increasing_maps_change_nothing(kind, seed, transform, bounds):
    maps, masks = make(kind, seed, n_images=4, size=16)
    maps = np.round(maps / np.abs(maps).max() * 3, 3)
    values = measured(maps, masks, bounds)
    assert np.array_equal(measured(transform(maps), masks, bounds), values)
    assert ((values >= 0) & (values <= 1)).all()


@settings(max_examples=40, deadline=None)
@given(kind=st.sampled_from(KINDS), seed=st.integers(0, 1000), added=st.floats(0, 3))
def test_higher_scores_in_the_mask_are_never_worse_and_those_beside_it_do_not_count(kind, seed, added):
    maps, masks = make(kind, seed, n_images=4, size=16)
    anomalous = masks.any((1, 2))
    before, raised = measured(maps, masks, (1e-3, 0.3)), maps + added * masks
    assert (measured(raised, masks, (1e-3, 0.3)) >= before - 1e-12).all()
    beside = maps + 100 * (~masks & anomalous[:, None, None])
    assert np.array_equal(measured(beside, masks, (1e-3, 0.3)), before)


def test_the_order_of_images_does_not_matter_nor_does_a_repeated_normal_image_set():
    maps, masks = make("gaussian", n_images=8)
    order = np.random.default_rng(0).permutation(8)
    values = np.full(8, np.nan)
    values[masks.any((1, 2))] = measured(maps, masks, (1e-3, 0.1))
    anomalous = [row for row in order if masks[row].any()]
    assert measured(maps[order], masks[order], (1e-3, 0.1)) == pytest.approx(values[anomalous], abs=1e-12)
    twice = [*maps, *maps[4:]], [*masks, *masks[4:]]
    assert measured(*twice, (1e-3, 0.1)) == pytest.approx(values[:4], abs=1e-12)


def test_perfect_and_useless_maps():
    masks = np.zeros((3, 20, 20), dtype=bool)
    masks[1:, 4:9, 4:9] = True
    noise = np.random.default_rng(0).random(masks.shape)
    assert measured(noise + masks, masks).tolist() == [1, 1]
    assert measured(noise - masks, masks, (0.001, 0.9)).tolist() == [0, 0]


def test_only_the_largest_normal_scores_are_kept():
    """A share of the bound, and all scores that equal the lowest of them."""
    rng = np.random.default_rng(0)
    found, maps = FalsePositives(0.01), rng.integers(0, 1000, (20, 100, 100)).astype(np.float32)
    for score_map in maps:
        found.add(score_map, 1 / maps.size)
        assert found._scores.size <= 0.01 * maps.size + 2 * maps.size / 1000
    levels = found.levels()
    assert levels.rates[0] > 0.01 >= levels.rates[1]
    for score, rate in zip(*levels, strict=True):
        assert rate == pytest.approx((maps >= score).mean(), abs=1e-12)


@pytest.mark.parametrize("value", [0, 1])
def test_without_normal_or_without_anomalous_images_it_is_undefined(value):
    with pytest.warns(UserWarning, match="undefined without both normal and anomalous images"):
        assert np.isnan(aupimo([np.eye(4)] * 2, [np.full((4, 4), value)] * 2)).all()


def test_bounds_below_the_smallest_rate_are_reported():
    with pytest.warns(UserWarning, match="no threshold has a false positive rate below 0.0625; recall is constant"):
        aupimo([np.arange(16.0).reshape(4, 4)] * 2, [np.zeros((4, 4)), np.eye(4)])


@pytest.mark.parametrize("bounds", [(0, 0.1), (0.1, 0.1), (0.2, 0.1), (0.1, 1.5), (np.nan, 0.1)])
def test_bad_bounds_are_refused(bounds):
    with pytest.raises(ValueError, match="'bounds' must be 0 < lower < upper <= 1"):
        aupimo([LOW], [np.eye(2)], bounds)


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="'maps' must be finite, image 1"):
        aupimo([LOW, np.full((2, 2), np.inf)], [np.zeros((2, 2)), np.eye(2)])
    with pytest.raises(ValueError, match="image 1: a mask holds 0 and 1"):
        aupimo([LOW, LOW], [np.zeros((2, 2)), 255 * np.eye(2)])
    with pytest.raises(ValueError, match="at least one normal score"):
        FalsePositives(0.1).levels()

"""Thresholds from normal images: worked examples, exact rates by theory, and the promise by simulation."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nfbench.metrics._tails import NormalScores
from nfbench.metrics._thresholds import (
    conformal_rank,
    conformal_threshold,
    image_threshold,
    p_values,
    pixel_threshold,
)

ALPHAS = (0.01, 0.02, 0.05, 0.1, 0.2)


def test_ranks_of_known_sizes():
    ranks = {n: conformal_rank(n, 0.05) for n in (19, 46, 60, 99, 199)}
    assert ranks == {19: 19, 46: 45, 60: 58, 99: 95, 199: 190}


@pytest.mark.parametrize("alpha", ALPHAS)
def test_ranks_are_those_of_exact_fractions(alpha):
    for n in range(1, 400):
        exact = (n + 1) * (1 - Fraction(str(alpha)))
        assert conformal_rank(n, alpha) == math.ceil(exact)


def test_worked_examples():
    normal = np.arange(1, 20)
    assert p_values(normal, [19, 19.5]).tolist() == [0.1, 0.05]
    assert conformal_threshold(normal) == 19  # so that 19 is no alarm and 19.5 is one
    assert conformal_threshold(normal[:18]) == math.inf


@given(
    st.lists(st.integers(0, 30), min_size=1, max_size=60),
    st.integers(-5, 35),
    st.sampled_from(ALPHAS),
)
def test_an_alarm_is_a_small_p_value(normal, score, alpha):
    """Also where scores are equal; compared in whole numbers, since a p-value may be rounded."""
    n = len(normal)
    (p,) = p_values(np.array(normal), [score])
    above = round(p * (n + 1))
    assert (score > conformal_threshold(np.array(normal), alpha)) == (above <= n + 1 - conformal_rank(n, alpha))


LAWS = {
    "normal": lambda rng, shape: rng.normal(size=shape),
    "exponential": lambda rng, shape: rng.exponential(size=shape),
    "log-normal": lambda rng, shape: rng.lognormal(size=shape),
    "few values": lambda rng, shape: rng.integers(0, 6, shape),
}


@pytest.mark.parametrize("n", [19, 46, 60])
@pytest.mark.parametrize("law", LAWS)
def test_the_false_alarm_rate_is_what_is_promised(law, n):
    """At most 5 % over draws of the calibration images; (n + 1 - k) / (n + 1) where no scores are equal."""
    rng, rounds = np.random.default_rng(0), 20_000
    normal, new = LAWS[law](rng, (rounds, n)), LAWS[law](rng, rounds)
    k = conformal_rank(n, 0.05)
    thresholds = np.sort(normal, axis=1)[:, k - 1]
    assert thresholds[0] == conformal_threshold(normal[0])
    rate, error = float(np.mean(new > thresholds)), 4 * math.sqrt(0.05 / rounds)
    assert rate <= 0.05 + error
    if law != "few values":
        assert rate == pytest.approx((n + 1 - k) / (n + 1), abs=error)


def test_other_rules_promise_nothing():
    """Their rate depends on the law and on the number of images: 3 sigma 3 % of log-normal, 0.3 % of normal scores."""
    rng, rounds, n = np.random.default_rng(0), 4_000, 46
    rates = {}
    for law in ("normal", "log-normal"):
        normal, new = LAWS[law](rng, (rounds, n)), LAWS[law](rng, rounds)
        for rule in ("sigma", "quantile"):
            thresholds = np.array([image_threshold(one, rule) for one in normal])
            rates[law, rule] = float(np.mean(new > thresholds))
    assert rates["normal", "sigma"] < 0.008
    assert 0.02 < rates["log-normal", "sigma"] < 0.045
    assert all(0.055 < rates[law, "quantile"] < 0.08 for law in ("normal", "log-normal"))


def test_no_pixel_of_most_normal_images_is_above_the_conformal_threshold():
    rng, alarmed = np.random.default_rng(0), []
    for _ in range(300):
        maps = rng.normal(size=(30, 6, 6)).astype(np.float32) + rng.normal(size=(30, 1, 1)).astype(np.float32)
        normal = NormalScores.of_maps(maps[:29])
        alarmed.append(bool((maps[29] > pixel_threshold(normal, "conformal")).any()))
    assert np.mean(alarmed) == pytest.approx(1 / 30, abs=0.03)


@given(st.lists(st.integers(1, 5), min_size=1, max_size=5), st.integers(0, 2**32 - 1))
def test_batches_do_not_matter(sizes, seed):
    rng = np.random.default_rng(seed)
    maps = rng.normal(loc=100, size=(sum(sizes), 4, 5)).astype(np.float32)
    images, rows = maps.mean((1, 2)), rng.permutation(len(maps))
    scores = NormalScores.of(len(maps))
    for part in np.split(np.arange(len(maps)), np.cumsum(sizes)[:-1]):
        scores = scores.add(rows[part], images[part], maps[part])
    whole = NormalScores.from_arrays(scores.sorted().arrays())
    assert whole.rows.tolist() == list(range(len(maps)))
    np.testing.assert_array_equal(whole.images, images[np.argsort(rows)])
    np.testing.assert_array_equal(whole.largest, maps.max((1, 2))[np.argsort(rows)])
    assert pixel_threshold(whole, "sigma") == pytest.approx(
        maps.mean(dtype=float) + 3 * maps.std(dtype=float), rel=1e-9
    )
    assert pixel_threshold(whole, "quantile") == pytest.approx(float(np.quantile(maps, 0.999)), rel=1e-6)


def test_methods_without_maps_have_image_scores():
    scores = NormalScores.of(3).add([2, 0, 1], np.array([5, 3, 4], np.float32), None).sorted()
    assert not scores.has_maps
    assert scores.images.tolist() == [3, 4, 5]
    assert image_threshold(scores.images, "sigma", sigmas=0) == 4


@pytest.mark.parametrize("alpha", [0, 1, -0.1, 1.5])
def test_rates_that_are_none_are_refused(alpha):
    with pytest.raises(ValueError, match="'alpha' must be between 0 and 1"):
        conformal_threshold(np.arange(9), alpha)

"""Calibration: energies of white latents lie on the diagonal, others off it."""

import numpy as np
import pytest

from nfbench.metrics._calibration import PROBABILITIES, chi_square_quantiles


@pytest.mark.parametrize("channels", [1, 24, 816])
def test_white_latents_are_on_the_diagonal(channels):
    energies = np.random.default_rng(0).chisquare(channels, (500, 1000))
    quantiles = chi_square_quantiles(energies, channels)
    assert [quantile.probability for quantile in quantiles] == list(PROBABILITIES)
    for quantile in quantiles[2:]:
        assert quantile.observed == pytest.approx(quantile.expected, rel=0.03)


def test_a_wider_spread_is_seen():
    energies = 1.5 * np.random.default_rng(0).chisquare(24, 100_000)
    assert all(q.observed / q.expected == pytest.approx(1.5, rel=0.05) for q in chi_square_quantiles(energies, 24))

"""Calibration: whether normal scores follow the distribution that the model assumes."""

from typing import Any, NamedTuple

import numpy as np
from scipy import special

from nfbench.metrics._inputs import as_array, check_finite

__all__ = ["PROBABILITIES", "Quantile", "chi_square_quantiles"]

PROBABILITIES = (0.001, 0.01, *np.arange(0.05, 1.0, 0.05).round(2).tolist(), 0.99, 0.999, 0.9999)
"""Probabilities at which quantiles are compared."""


class Quantile(NamedTuple):
    """A quantile of ``sum_c z_c^2 / C``: expected of standard normal latents, and observed."""

    probability: float
    expected: float
    observed: float


def chi_square_quantiles(energies: Any, channels: int) -> list[Quantile]:
    """Quantiles of energies against those of the chi-square distribution that standard normal latents give them.

    Args:
        energies: ``sum_c z_c^2`` of normal images, any shape.
        channels: C, the degrees of freedom.

    Raises:
        ValueError: no energies, a negative one, NaN or infinity, or no channels.
    """
    energies = as_array(energies)
    check_finite(energies, "'energies'")
    if not energies.size or energies.min() < 0:
        raise ValueError("'energies' must have at least one value, none of them negative")
    if not channels >= 1:
        raise ValueError(f"'channels' must be at least 1, got {channels}")
    expected = 2 * special.gammaincinv(channels / 2, PROBABILITIES) / channels  # chi-square: a gamma with scale 2
    observed = np.quantile(energies, PROBABILITIES) / channels
    return [Quantile(*row) for row in zip(PROBABILITIES, expected.tolist(), observed.tolist(), strict=True)]

"""Do normal scores follow the distribution that the model gives them?"""

from typing import NamedTuple

import numpy as np
from scipy import special

__all__ = ["PROBABILITIES", "Quantile", "chi_square_quantiles"]

PROBABILITIES = (0.001, 0.01, *np.arange(0.05, 1.0, 0.05).round(2).tolist(), 0.99, 0.999, 0.9999)
"""Where quantiles are compared."""


class Quantile(NamedTuple):
    """A quantile of ``sum_c z_c^2 / C``: expected of standard normal latents, and observed."""

    probability: float
    expected: float
    observed: float


def chi_square_quantiles(energies: np.ndarray, channels: int) -> list[Quantile]:
    """Quantiles of energies against those of the chi-square distribution that standard normal latents give them.

    Args:
        energies: ``sum_c z_c^2`` of normal images, any shape.
        channels: C, the degrees of freedom.
    """
    expected = 2 * special.gammaincinv(channels / 2, PROBABILITIES) / channels  # chi-square: a gamma with scale 2
    observed = np.quantile(energies, PROBABILITIES) / channels
    return [Quantile(*row) for row in zip(PROBABILITIES, expected.tolist(), observed.tolist(), strict=True)]

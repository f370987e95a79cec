"""Comparison of measured values with published ones."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from nfbench.metrics import SHARE
from nfbench.reference import PublishedValue

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Comparison", "compare"]

Status = Literal["reproduced", "close", "off", "missing", "measured", "incomparable", "published only"]


@dataclass(frozen=True)
class Comparison:
    """One cell of a table in printed units: shares are in percent.

    Attributes:
        mean: mean over seeds; NaN if undefined.
        std: sample standard deviation over seeds; NaN for one seed.
        n_seeds: number of seeds.
        published: the published value, or None.
        difference: mean minus published, in points; NaN if one of them is missing.
        status: ``reproduced``, ``close`` or ``off`` by the stated tolerance; ``missing`` if a value is published but
            none was measured; ``measured`` if none is published; ``incomparable`` if the published value is for other
            data, so there is no difference; ``published only`` if no run is compared with it.
        runs: results behind the mean, rows of the aggregated results.
        holes: number of expected runs that are missing in the mean.
    """

    mean: float
    std: float
    n_seeds: int
    published: PublishedValue | None
    difference: float
    status: Status
    runs: pd.DataFrame = field(compare=False, repr=False)
    holes: int = 0


def compare(
    values: pd.Series,
    published: PublishedValue | None = None,
    tolerance: tuple[float, float] = (0, 0),
    *,
    runs: pd.DataFrame,
    factor: float = SHARE.factor,
    comparable: bool = True,
) -> Comparison:
    """Compare the values of all seeds with a published value.

    Args:
        values: values as in run records, one per seed.
        published: published value as printed, or None.
        tolerance: largest absolute differences, in points, that count as ``reproduced`` and as ``close``.
        runs: the results behind the values.
        factor: factor of printed values; see ``nfbench.metrics.Unit``.
        comparable: whether the published value is for the same data.
    """
    import numpy as np

    printed = factor * values.to_numpy(dtype=float)
    mean = float(np.mean(printed)) if len(printed) else float("nan")
    std = float(np.std(printed, ddof=1)) if len(printed) > 1 else float("nan")
    difference = mean - published.value if published and comparable else float("nan")
    status = _status(mean, published, difference, tolerance)
    return Comparison(mean, std, len(printed), published, difference, status, runs)


def _status(mean: float, published: PublishedValue | None, difference: float, tolerance: tuple[float, float]) -> Status:
    if math.isnan(mean):
        return "missing"
    if published is None or published.is_lost:
        return "measured"
    if math.isnan(difference):
        return "incomparable"
    reproduced, close = tolerance
    if abs(difference) <= reproduced:
        return "reproduced"
    return "close" if abs(difference) <= close else "off"

"""Measured values compared with published ones."""

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
    """One cell of a table, as it is printed: shares in percent.

    Attributes:
        mean: mean over seeds, NaN where undefined.
        std: sample standard deviation over seeds, NaN for one seed.
        n_seeds: number of seeds.
        published: the published value, or None.
        difference: mean minus published, in points; NaN where one of them is missing.
        status: ``reproduced``, ``close`` or ``off`` by the stated tolerance; ``missing`` where a value is published
            but none measured; ``measured`` where none is published; ``incomparable`` where the published value is
            one of other data, so that there is no difference; ``published only`` where nothing of ours is compared.
        runs: the results that it is the mean of, rows of the aggregated results.
        holes: runs that ought to be part of the mean and are not done.
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
        published: published value as it is printed, or None.
        tolerance: largest absolute differences in points that count as ``reproduced`` and as ``close``.
        runs: the results behind the values.
        factor: values are printed times this, see ``nfbench.metrics.Unit``.
        comparable: whether the published value is one of the same data.
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

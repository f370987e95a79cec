"""Significance of differences between methods: paired tests, ranks, and the critical difference.

Methods are compared on blocks, which are categories (means over seeds), single runs (category and seed), or images
(means over seeds, for metrics that have values by image). Seeds of one category share their images, so runs are not
independent: tests over runs ask whether a difference holds on these categories, tests over categories whether it would
hold on others, and tests over images whether these models would differ on other images of these categories.

Wilcoxon signed-rank tests with Holm's correction follow Demšar (JMLR 7, 2006) and Benavoli et al. (JMLR 17, 2016).
Friedman's test and Nemenyi's critical difference follow Demšar.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
import pandas as pd
from scipy import stats

__all__ = ["PairedTest", "Ranking", "blocks", "holm", "paired_tests", "rank_methods"]

Unit = Literal["category", "run", "image"]

_KEYS: dict[Unit, list[str]] = {"category": [], "run": ["seed"], "image": ["image"]}


@dataclass(frozen=True)
class PairedTest:
    """Paired test of two methods on their common blocks.

    Attributes:
        first, second: the methods.
        n: number of blocks.
        difference: mean of first minus second, in the unit of the values.
        wins, losses: numbers of blocks where ``first`` is larger, and smaller.
        p: two-sided p-value of the Wilcoxon signed-rank test without zero differences; 1 if all are zero.
        p_holm: p-value corrected for all pairs by Holm's method.
    """

    first: str
    second: str
    n: int
    difference: float
    wins: int
    losses: int
    p: float
    p_holm: float


@dataclass(frozen=True)
class Ranking:
    """Mean ranks of methods over blocks; rank 1 is the largest value of a block.

    Attributes:
        ranks: mean rank by method, best first.
        n: number of blocks.
        p: p-value of Friedman's test of the hypothesis that all methods are equal.
        critical_difference: smallest significant difference of two mean ranks by Nemenyi's test.
        groups: largest groups of neighbouring methods without a significant difference.
    """

    ranks: dict[str, float]
    n: int
    p: float
    critical_difference: float
    groups: tuple[tuple[str, ...], ...]


def blocks(results: pd.DataFrame, unit: Unit) -> pd.DataFrame:
    """Arrange values of one metric and selection by block and method, for blocks that all methods have.

    Args:
        results: aggregated results of one metric, selection and setting, each method on one backbone; for images, with
            a row and a column ``image`` for each of them.
        unit: what a block is.
    """
    keys = ["dataset", "category", *_KEYS[unit]]
    return results.pivot_table(index=keys, columns="method", values="value", sort=False).dropna()


def paired_tests(values: pd.DataFrame) -> list[PairedTest]:
    """Test all pairs of columns.

    Args:
        values: one row per block, one column per method.
    """
    pairs = list(combinations(values.columns, 2))
    columns = {name: values[name].to_numpy() for name in values.columns}
    differences = [columns[first] - columns[second] for first, second in pairs]
    p = [_wilcoxon(difference) for difference in differences]
    return [
        PairedTest(*pair, len(d), float(d.mean()) if len(d) else math.nan, int((d > 0).sum()), int((d < 0).sum()), *ps)
        for pair, d, ps in zip(pairs, differences, zip(p, holm(p), strict=True), strict=True)
    ]


def holm(p: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values, in the order of ``p``; they control the family-wise error rate."""
    order = np.argsort(p, kind="stable")
    factors = len(p) - np.arange(len(p))
    adjusted = np.minimum(1, np.maximum.accumulate(factors * np.asarray(p, dtype=float)[order]))
    return adjusted[np.argsort(order)].tolist()


def rank_methods(values: pd.DataFrame, alpha: float = 0.05) -> Ranking | None:
    """Rank the columns within each row and compare their mean ranks.

    Args:
        values: one row per block, one column per method; equal values share their mean rank.
        alpha: level of the critical difference.

    Returns:
        The ranking; None for fewer than three methods or two blocks.
    """
    n, k = values.shape
    if k < 3 or n < 2:
        return None
    ranks = values.rank(axis=1, ascending=False).mean().sort_values(kind="stable")
    spread = stats.studentized_range.ppf(1 - alpha, k, np.inf) / math.sqrt(2)
    critical = float(spread * math.sqrt(k * (k + 1) / (6 * n)))
    constant = (values.nunique(axis=1) == 1).all()
    p = 1.0 if constant else float(stats.friedmanchisquare(*values.to_numpy().T).pvalue)
    return Ranking(ranks.to_dict(), n, p, critical, _groups(ranks, critical))


def _wilcoxon(differences: np.ndarray) -> float:
    return float(stats.wilcoxon(differences).pvalue) if np.any(differences) else 1.0


def _groups(ranks: pd.Series, critical: float) -> tuple[tuple[str, ...], ...]:
    """Maximal groups of at least two neighbours whose ranks differ by at most ``critical``."""
    names, found = list(ranks.index), []
    last_end = 0
    for start in range(len(names)):
        end = int((ranks <= ranks.iloc[start] + critical).sum())
        if end - start > 1 and end > last_end:
            found.append(tuple(names[start:end]))
        last_end = max(last_end, end)
    return tuple(found)

"""Tests between methods against SciPy, planted differences and published constants; intervals against SciPy and in
simulation."""

from itertools import chain, combinations

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from nfbench.results.bootstrap import auroc_interval, auroc_kernel
from nfbench.results.statistics import blocks, holm, paired_tests, rank_methods

pytestmark = pytest.mark.slow


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def frame(values, names="abcdefghij"):
    return pd.DataFrame(values, columns=list(names[: values.shape[1]]))


def test_pairs_agree_with_scipy(rng):
    values = frame(rng.normal(size=(15, 4)))
    found = paired_tests(values)
    assert [(t.first, t.second) for t in found] == list(combinations("abcd", 2))
    for test in found:
        x, y = values[test.first], values[test.second]
        assert test.p == stats.wilcoxon(x, y).pvalue
        assert test.difference == pytest.approx((x - y).mean())
        assert (test.n, test.wins + test.losses) == (15, 15)


def test_exact_p_of_a_clean_sweep():
    """All of n differences have one sign: 2 of 2^n sign patterns are as extreme."""
    values = frame(np.arange(1.0, 9.0)[:, None] * [2, 1])
    (test,) = paired_tests(values)
    assert test.p == pytest.approx(2 / 2**8)
    assert (test.wins, test.losses) == (8, 0)


def test_equal_methods_do_not_differ():
    (test,) = paired_tests(frame(np.ones((5, 2))))
    assert (test.p, test.p_holm, test.difference) == (1, 1, 0)


def test_holm_is_closed_bonferroni(rng):
    """The closure principle, by all subsets: a hypothesis falls if each subset that holds it falls by Bonferroni."""
    for _ in range(20):
        p = rng.uniform(0, 0.2, 5)
        subsets = list(chain.from_iterable(combinations(range(5), k) for k in range(1, 6)))
        oracle = [max(min(1, len(s) * min(p[list(s)])) for s in subsets if i in s) for i in range(5)]
        assert holm(p) == pytest.approx(oracle)
    assert holm([]) == []


def test_planted_difference_is_found_and_nothing_else(rng):
    """Of three methods, one is a point better on fifteen categories; the other two differ by noise alone."""
    hits = false = 0
    for _ in range(100):
        values = frame(rng.normal(90, 3, (15, 1)) + rng.normal(0, 0.5, (15, 3)) + [1, 0, 0])
        found = {(t.first, t.second): t.p_holm for t in paired_tests(values)}
        hits += found["a", "b"] < 0.05 and found["a", "c"] < 0.05
        false += found["b", "c"] < 0.05
    assert hits >= 90
    assert false <= 10


def test_no_difference_is_found_where_there_is_none(rng):
    """Holm keeps the chance of any finding among six pairs below the level."""
    false = [min(t.p_holm for t in paired_tests(frame(rng.normal(size=(15, 4))))) < 0.05 for _ in range(300)]
    assert np.mean(false) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 300)


@pytest.mark.parametrize(("k", "q"), [(3, 2.343), (4, 2.569), (5, 2.728), (10, 3.164)])
def test_critical_difference_has_the_published_constants(rng, k, q):
    """Table 5 of Demšar (2006)."""
    ranking = rank_methods(frame(rng.normal(size=(20, k))))
    assert ranking.critical_difference == pytest.approx(q * np.sqrt(k * (k + 1) / (6 * 20)), abs=2e-3)


def test_ranks_and_friedman(rng):
    values = frame(rng.normal([0, 3, 0, -3], size=(12, 4)))
    ranking = rank_methods(values)
    first, *_, last = ranking.ranks
    assert (first, last) == ("b", "d")
    assert sum(ranking.ranks.values()) == pytest.approx(4 * 5 / 2)
    assert ranking.p == stats.friedmanchisquare(*values.to_numpy().T).pvalue
    assert rank_methods(values[["a", "b"]]) is None


def test_groups_are_the_longest_runs_within_the_critical_difference():
    order = np.array([[5, 4, 3, 2, 1]] * 6)  # mean ranks 1 to 5, critical difference 2.49 for six blocks
    ranking = rank_methods(frame(order))
    assert ranking.critical_difference == pytest.approx(2.49, abs=0.01)
    assert ranking.groups == (("a", "b", "c"), ("b", "c", "d"), ("c", "d", "e"))
    assert rank_methods(frame(np.array([[3, 2, 1]] * 100))).groups == ()


def test_blocks_are_those_that_all_methods_have():
    rows = [("d", category, seed, method, seed + len(category)) for method in "ab" for category in ("x", "yy")
            for seed in (0, 1) if (method, category, seed) != ("b", "yy", 1)]  # fmt: skip
    results = pd.DataFrame(rows, columns=["dataset", "category", "seed", "method", "value"])
    assert blocks(results, "run").shape == (3, 2)
    by_category = blocks(results, "category")
    assert by_category.loc[("d", "x")].tolist() == [1.5, 1.5]
    assert by_category.loc[("d", "yy"), "b"] == 2


def test_kernel_is_the_auroc(rng):
    scores, labels = rng.integers(0, 6, 40), rng.permutation([0] * 15 + [1] * 25)
    assert auroc_kernel(scores, labels).mean() == pytest.approx(roc_auc_score(labels, scores))


def test_interval_agrees_with_scipy(rng):
    scores = rng.normal(size=70) + np.repeat([0, 1.5], [30, 40])
    labels = np.repeat([0, 1], [30, 40])

    def auroc(anomalous, normal, axis=-1):
        return stats.mannwhitneyu(anomalous, normal, axis=axis).statistic / (anomalous.shape[-1] * normal.shape[-1])

    samples = (scores[labels == 1], scores[labels == 0])
    scipy = stats.bootstrap(samples, auroc, method="BCa", n_resamples=5000, random_state=1).confidence_interval
    mine = auroc_interval([auroc_kernel(scores, labels)], n_resamples=5000)
    assert mine.point == pytest.approx(roc_auc_score(labels, scores))
    assert (mine.low, mine.high) == pytest.approx((scipy.low, scipy.high), abs=6e-3)


@pytest.mark.parametrize("separation", [1.0, 2.0])
def test_intervals_cover_at_the_stated_rate(separation):
    """Normal scores, whose AUROC is known; 50 anomalous and 40 normal images, as in a category of MVTec AD."""
    truth = stats.norm.cdf(separation / np.sqrt(2))
    labels, rounds = np.repeat([0, 1], [40, 50]), 600
    covered = []
    for number in range(rounds):
        scores = np.random.default_rng(number).normal(size=90) + separation * labels
        found = auroc_interval([auroc_kernel(scores, labels)], confidence=0.9, n_resamples=800, seed=number)
        covered.append(found.low <= truth <= found.high)
    assert np.mean(covered) == pytest.approx(0.9, abs=0.02 + 2 * np.sqrt(0.09 / rounds))


def test_paired_interval_of_a_difference_covers_and_is_narrow():
    """Two methods whose scores share most of their noise: the interval of the difference of their kernels."""
    labels, rounds, covered, widths = np.repeat([0, 1], [40, 50]), 300, [], []
    truth = stats.norm.cdf(1.3 / np.sqrt(2 * 1.09)) - stats.norm.cdf(1.0 / np.sqrt(2 * 1.09))
    for number in range(rounds):
        rng = np.random.default_rng(number)
        shared = rng.normal(size=90)
        first, second = (shared + 0.3 * rng.normal(size=90) + gap * labels for gap in (1.3, 1.0))
        kernels = auroc_kernel(first, labels), auroc_kernel(second, labels)
        found = auroc_interval([kernels[0] - kernels[1]], n_resamples=800, seed=number)
        covered.append(found.low <= truth <= found.high)
        alone = auroc_interval([kernels[0]], n_resamples=800, seed=number)
        widths.append((found.high - found.low) / (alone.high - alone.low))
    assert np.mean(covered) == pytest.approx(0.95, abs=0.02 + 2 * np.sqrt(0.0475 / rounds))
    assert np.mean(widths) < 0.8


def test_interval_of_a_mean_over_categories_is_narrower(rng):
    labels = np.repeat([0, 1], [30, 40])
    kernels = [auroc_kernel(rng.normal(size=70) + labels, labels) for _ in range(9)]
    alone, mean = auroc_interval(kernels[:1]), auroc_interval(kernels)
    assert mean.point == pytest.approx(np.mean([kernel.mean() for kernel in kernels]))
    assert mean.high - mean.low < 0.45 * (alone.high - alone.low)


def test_perfect_separation_has_no_width():
    assert auroc_interval([np.ones((5, 4))]) == (1, 1, 1)

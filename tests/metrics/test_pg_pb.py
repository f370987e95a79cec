"""PGn and PBn: the exact form on examples worked by hand, and the rates that they promise."""

import numpy as np
import pytest

from nfbench.metrics import find_metric
from nfbench.metrics.image_pb import _at as pb
from nfbench.metrics.image_pg import _at as pg

NORMAL = [1, 2, 3, 4, 5, 6, 7, 8, 9, 14]
ANOMALOUS = [8.5, 10, 11, 12, 13, 15, 16, 17, 18, 19]


class Images:
    def __init__(self, normal, anomalous):
        self.images = {"paper": np.array([*normal, *anomalous], dtype=float)}
        self.labels = np.repeat([0, 1], [len(normal), len(anomalous)])


def both(normal, anomalous, percent):
    return [metric(percent).value(Images(normal, anomalous), "paper") for metric in (pg, pb)]


@pytest.mark.parametrize(
    ("normal", "anomalous", "percent", "expected"),
    [
        (NORMAL, ANOMALOUS, 5, [0.8, 0.5]),
        (NORMAL, ANOMALOUS, 10, [0.9, 0.9]),
        ([0.1, 0.4], [0.35, 0.8], 20, [0.5, 0.5]),
        ([1, 2], [2, 3], 5, [0.5, 0.5]),  # a tie is neither below nor above
        ([0] * 4, [0] * 4, 5, [0.0, 0.0]),
    ],
)
def test_worked_examples(normal, anomalous, percent, expected):
    assert both(normal, anomalous, percent) == expected


@pytest.mark.parametrize("percent", [1, 2, 5, 7, 29, 57])
def test_no_more_are_missed_or_alarmed_than_promised(percent):
    """29 % and 57 % of 100 are whole numbers that floats miss from below."""
    rng = np.random.default_rng(percent)
    normal, anomalous = rng.normal(size=100).round(1), (rng.normal(size=100) + 1).round(1)
    good, bad = both(normal, anomalous, percent)
    below, above = np.sort(anomalous)[percent], np.sort(normal)[::-1][percent]
    assert (anomalous < below).mean() <= percent / 100 >= (normal > above).mean()
    assert (good, bad) == ((normal < below).mean(), (anomalous > above).mean())


def test_names_and_titles():
    assert find_metric("image_pg5_top1").title.startswith("PG5, good images at 5 % misses (mean of")
    assert find_metric("image_pb2").short == "PB2"

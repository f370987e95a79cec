"""PGn, percentage of good images at n % misses, from viad-benchmark (arXiv 2503.23451).

The share of normal images whose score is below the (floor(n P) + 1)-th smallest score of the P anomalous images: at
most n % of these are below it too, and so missed. The threshold is chosen on the test set: an upper bound. anomalib
takes an interpolated quantile instead, which gives more misses if there are few images.
"""

import math
from typing import TYPE_CHECKING

from nfbench.metrics import BY_RULE, Metric

if TYPE_CHECKING:
    from nfbench.scoring.evaluate import ScoredSet

__all__ = ["METRICS"]


def _at(percent: int) -> Metric:
    def value(test: "ScoredSet", rule: str) -> float:
        scores = test.images[rule]
        normal, anomalous = scores[test.labels == 0], sorted(scores[test.labels == 1])
        if not normal.size or not anomalous:
            return math.nan
        missed = math.floor(percent / 100 * len(anomalous) + 1e-9)
        return float((normal < anomalous[missed]).mean())

    title = f"PG{percent}, good images at {percent} % misses"
    return Metric(f"image_pg{percent}", title, value, variants=BY_RULE, short=f"PG{percent}")


METRICS = [_at(percent) for percent in (1, 2, 5)]

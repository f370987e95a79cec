"""PBn, percentage of bad images at n % false alarms, from viad-benchmark (arXiv 2503.23451).

The share of anomalous images whose score is above the (floor(n N) + 1)-th largest score of the N normal images: at most
n % of these are above it too, and so false alarms. The threshold is chosen on the test set: an upper bound. anomalib
takes an interpolated quantile instead, which gives more false alarms if there are few images.
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
        anomalous, normal = scores[test.labels == 1], sorted(scores[test.labels == 0], reverse=True)
        if not anomalous.size or not normal:
            return math.nan
        alarms = math.floor(percent / 100 * len(normal) + 1e-9)
        return float((anomalous > normal[alarms]).mean())

    title = f"PB{percent}, bad images at {percent} % false alarms"
    return Metric(f"image_pb{percent}", title, value, variants=BY_RULE, short=f"PB{percent}")


METRICS = [_at(percent) for percent in (1, 2, 5)]

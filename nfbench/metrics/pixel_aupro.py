"""AUPRO: area under the per-region overlap up to a false positive rate, divided by that rate; see ``_ranking``."""

from nfbench.metrics import ORIGINAL_SIZE, Metric

__all__ = ["METRICS"]

METRICS = [
    Metric(
        "pixel_aupro",
        "AUPRO",
        lambda test, _: test.aupro(0.3),
        needs_masks=True,
        size=ORIGINAL_SIZE,
        headline=True,
    ),
    Metric(
        "pixel_aupro_05",
        "AUPRO up to a false positive rate of 0.05",
        lambda test, _: test.aupro(0.05),
        needs_masks=True,
        size=ORIGINAL_SIZE,
    ),
]

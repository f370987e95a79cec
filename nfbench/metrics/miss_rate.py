"""Share of anomalous images, and of anomalous pixels, that are not above a threshold; see ``_thresholds``."""

from nfbench.metrics._rates import rates

__all__ = ["METRICS"]

METRICS = rates("misses", "miss_rate", "miss rate")

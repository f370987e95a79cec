"""Share of normal images, and of normal pixels, that are above a threshold; see ``_thresholds``."""

from nfbench.metrics._rates import rates

__all__ = ["METRICS"]

METRICS = rates("false_alarms", "false_alarm_rate", "false-alarm rate")

"""Names of metrics in tables."""

from collections.abc import Iterable
from itertools import groupby

from nfbench.metrics import find_metric, known_metrics

__all__ = ["metric_title", "short_metric", "sizes", "titles"]


def metric_title(metric: str) -> str:
    """Printed name of a metric, with the rule of the image score if it is not the method's own."""
    return known_metrics()[metric].title if metric in known_metrics() else metric


def short_metric(metric: str) -> str:
    """Name of a metric in column headings."""
    return known_metrics()[metric].short if metric in known_metrics() else metric


def titles(metrics: Iterable[str]) -> str:
    """Titles of metrics, with the unit after the metrics that share it."""
    by_unit = groupby(map(find_metric, metrics), lambda named: named.metric.unit.suffix)
    return ", ".join(f"{', '.join(named.title for named in shared)}{suffix}" for suffix, shared in by_unit)


def sizes(metrics: Iterable[str]) -> str:
    """Sizes of maps that metrics are measured at."""
    return ", ".join(filter(None, dict.fromkeys(find_metric(metric).metric.size for metric in metrics)))

"""Tables of decisions: false-alarm and miss rates at thresholds from normal images, and at the oracle's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from nfbench.config.metrics import MetricName
from nfbench.config.runs import Runs
from nfbench.config.tables import RunsTableConfig
from nfbench.metrics import families, find_metric
from nfbench.metrics._rates import RATES
from nfbench.tables._captions import caption_of_means
from nfbench.tables._comparison import compare_runs, of_setting, require_metrics
from nfbench.tables._model import Column, Row, Source, Table

__all__ = ["TABLE", "DecisionsTable"]

_RULES = {
    "": "conformal, 5 %",
    "_sigma": "mean + 3 standard deviations",
    "_quantile": "quantile: 95 % of images, 99.9 % of pixels",
    "_nfa": "NFA < 1",
    "_oracle": "best F1 on the test set (optimistic)",
}
"""Rows, by the ending of the metrics' names."""


class DecisionsTable(RunsTableConfig):
    """A table of false-alarm and miss rates; the rows are methods and threshold rules."""

    example = {"title": "Decisions", "setting": "one-class"}

    kind: Literal["decisions"] = "decisions"
    metrics: tuple[MetricName, ...] = Field(RATES, min_length=1, description="rates, without the ending of a rule")

    def faults_in_setting(self, key: str, shown: Runs, runs: Runs) -> Iterator[str]:
        """Yield metrics that are not rates."""
        for metric in self.metrics:
            if metric not in RATES:
                yield f"'{key}.metrics': '{metric}' is not an error rate; known: {', '.join(RATES)}"

    def make(self, name: str, source: Source) -> Table:
        """Average over the categories of a dataset at the last epoch; rules without runs of a method are left out."""
        results = of_setting(name, self.setting, source.results)
        known = {f"{metric}{ending}" for metric in self.metrics for ending in _RULES} & set(_names())
        results = results[(results.selection == "last") & results.metric.isin(known)]
        measured = [metric for metric in self.metrics if metric in set(results.metric)]
        require_metrics(name, measured or self.metrics, results)
        rows = []
        for labels, runs in results.groupby(["dataset", "title", "backbone"], sort=False):
            for ending, rule in _RULES.items():
                parts = [runs[runs.metric == f"{metric}{ending}"] for metric in measured]
                if any(len(part) for part in parts):
                    rows.append(Row((*labels, rule), tuple(map(compare_runs, parts))))
        columns = tuple(Column(_title(metric), metric, metric, "last") for metric in measured)
        more = ["the conformal threshold promises at most 5 % false alarms on images like the held-out ones"]
        caption = caption_of_means(self.title, measured, results, source.notes, ["last"], more=more)
        heads, keys = ("dataset", "method", "backbone", "threshold"), ("column", "metric", "selection")
        return Table(name, caption, columns, tuple(rows), heads=heads, keys=keys)


def _title(metric: str) -> str:
    """Title of a rate without the rule, which the row names."""
    named = find_metric(metric)
    return f"{named.title.partition(' at ')[0]}{named.metric.unit.suffix}"


def _names() -> list[str]:
    """All rates for all rules."""
    return [named.name for rate in RATES for named in families()[find_metric(rate).family]]


TABLE = DecisionsTable

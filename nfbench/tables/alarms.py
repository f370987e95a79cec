"""Tables of false alarms: shares of normal test images with an alarm, over all categories together, by method."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from nfbench.config.metrics import MetricName
from nfbench.config.runs import Runs
from nfbench.config.tables import RunsTableConfig
from nfbench.metrics import find_metric, metrics_of
from nfbench.results.compare import Comparison, compare
from nfbench.tables._captions import caption_of_means
from nfbench.tables._comparison import of_setting, require_metrics, unit_factor
from nfbench.tables._model import Column, Row, Source, Table, Text
from nfbench.tables._titles import short_metric

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["TABLE", "AlarmsTable"]

_FAMILY = "alarmed_images"


class AlarmsTable(RunsTableConfig):
    """A table of normal test images with a false alarm, counted over all categories together."""

    example = {"title": "False alarms", "setting": "one-class"}

    kind: Literal["alarms"] = "alarms"
    metrics: tuple[MetricName, ...] = Field(
        ("alarmed_nfa", "alarmed_nfa_1e6"), min_length=1, description="shares of normal images, as run.json names them"
    )

    def faults_in_setting(self, key: str, shown: Runs, runs: Runs) -> Iterator[str]:
        """Yield metrics that are not shares of normal images."""
        known = ", ".join(named.name for named in metrics_of([_FAMILY]))
        for metric in self.metrics:
            if find_metric(metric).family != _FAMILY:
                yield f"'{key}.metrics': '{metric}' is not a share of normal images with a false alarm; known: {known}"

    def make(self, name: str, source: Source) -> Table:
        """Count alarms at the last epoch by seed, and their share of all normal test images."""
        results = of_setting(name, self.setting, source.results)
        results = results[(results.selection == "last") & results.metric.isin(self.metrics)]
        require_metrics(name, self.metrics, results)
        columns = [
            column
            for metric in self.metrics
            for column in (
                Column(short_metric(metric), metric, metric, "last", metric=metric),
                Column(f"images, {short_metric(metric)}", is_text=True),
            )
        ]
        rows = [
            Row(labels, tuple(cell for metric in self.metrics for cell in _cells(runs[runs.metric == metric])))
            for labels, runs in results.groupby(["dataset", "title", "backbone"], sort=False)
        ]
        cells = "{spread}, over the normal test images of all categories together; images: number of images by seed"
        caption = caption_of_means(self.title, self.metrics, results, source.notes, ["last"], cells=cells)
        heads, keys = ("dataset", "method", "backbone"), ("column", "metric", "selection")
        return Table(name, caption, tuple(columns), tuple(rows), heads=heads, keys=keys)


def _cells(runs: pd.DataFrame) -> tuple[Comparison, Text]:
    """Share and number of alarmed images."""
    import pandas as pd

    images = pd.DataFrame({"seed": runs.seed, "alarmed": runs.value * runs.n_test_normal, "of": runs.n_test_normal})
    by_seed = images.groupby("seed").sum()
    counts, totals = (
        ", ".join(map(str, found)) for found in (by_seed.alarmed.round().astype(int), by_seed.of.unique())
    )
    text = Text(f"{counts} of {totals}" if len(runs) else "–")
    return compare(by_seed.alarmed / by_seed.of, factor=unit_factor(runs), runs=runs), text


TABLE = AlarmsTable

"""Tables of robustness: means under each condition of an experiment, by method."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from nfbench.config import Condition, condition_of
from nfbench.config.conditions import AXES
from nfbench.config.metrics import MetricName
from nfbench.config.runs import Runs
from nfbench.config.tables import RunsTableConfig, Selection
from nfbench.core.errors import NfbenchError
from nfbench.tables._captions import caption_of_means
from nfbench.tables._comparison import common_categories, compare_runs, of_setting, require_metrics
from nfbench.tables._model import Column, Row, Source, Table
from nfbench.tables._titles import metric_title

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["TABLE", "RobustnessTable"]

_UNCHANGED = "unchanged"


class RobustnessTable(RunsTableConfig):
    """A table of methods under all conditions; cells are means over categories, with their spread over seeds."""

    example = {"title": "Robustness", "metrics": ["image_auroc"], "setting": "one-class"}
    of_conditions = True

    kind: Literal["robustness"] = "robustness"
    metrics: tuple[MetricName, ...] = Field(min_length=1, description="metrics, as run.json names them")
    selection: Selection = Field("last", description="selection of the scored checkpoint")

    def faults_in_setting(self, key: str, shown: Runs, runs: Runs) -> Iterator[str]:
        """Yield a fault if the experiment has no conditions in the setting."""
        if not shown.conditions:
            yield f"'{key}': a table of kind 'robustness' needs a block with 'shots', 'contamination' or 'shift'"

    def make(self, name: str, source: Source) -> Table:
        """Average over the categories that all conditions and methods have.

        Raises:
            NfbenchError: no run has a metric, or no category is common.
        """
        results = of_setting(name, self.setting, source.results)
        results = results[(results.selection == self.selection) & results.metric.isin(self.metrics)]
        require_metrics(name, self.metrics, results)
        if results.empty:
            raise NfbenchError(f"table '{name}': no run has the selection '{self.selection}'")
        parts = [part for _, part in results.groupby(["dataset", "method", "backbone", "condition"])]
        by_dataset = {
            dataset: [p for p in parts if p.dataset.iloc[0] == dataset] for dataset in results.dataset.unique()
        }
        shared = [common_categories(name, own, results[results.dataset == key]) for key, own in by_dataset.items()]
        columns = tuple(Column(metric_title(m), m, m, self.selection, metric=m) for m in self.metrics)
        rows = tuple(row for of_dataset in shared for row in self._rows(of_dataset))
        cells = "{spread}, of means over categories; condition: " + "; ".join(_explained(results))
        caption = caption_of_means(self.title, self.metrics, results, source.notes, [self.selection], cells=cells)
        heads, keys = ("dataset", "condition", "method", "backbone"), ("column", "metric", "selection")
        return Table(name, caption, columns, rows, heads=heads, keys=keys)

    def _rows(self, results: pd.DataFrame) -> Iterator[Row]:
        by_condition = dict(list(results.groupby("condition", sort=False)))
        for name in sorted(by_condition, key=_place):
            for (dataset, title, backbone), runs in by_condition[name].groupby(
                ["dataset", "title", "backbone"], sort=False
            ):
                cells = tuple(compare_runs(runs[runs.metric == metric]) for metric in self.metrics)
                yield Row((dataset, name or _UNCHANGED, title, backbone), cells)


def _place(name: str) -> tuple[int, float, float]:
    """Order of conditions: unchanged images first, then by axis and strength."""
    found = condition_of(name)
    return ("", *AXES).index(found.axis), found.largest, found.strength


def _explained(results: pd.DataFrame) -> Iterator[str]:
    """Yield what each axis of the results means, with its unit."""
    conditions = [condition_of(name) for name in results.condition.unique()]
    axes: dict[str, Condition] = {found.axis: found for found in conditions if found.axis}
    for axis, found in axes.items():
        yield f"{axis}, {found.axis_title}"
    if "contamination" in axes:
        yield "contamination x of y tests without the anomalies that the ratio y would move, which differ by seed"
    if any(found.is_shift for found in axes.values()):
        yield "models and thresholds of shifted test images are those of unchanged ones"


TABLE = RobustnessTable

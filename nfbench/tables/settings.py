"""Tables of settings: one model per category compared with one model for all categories, by method."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from nfbench.config.metrics import MetricName
from nfbench.config.runs import Runs
from nfbench.config.tables import Selection, TableConfig
from nfbench.core.errors import NfbenchError, required
from nfbench.results.compare import Comparison, compare
from nfbench.tables._captions import caption_of_means
from nfbench.tables._comparison import common_categories, compare_runs, require_metrics, unit_factor
from nfbench.tables._model import Column, Row, Source, Table
from nfbench.tables._titles import metric_title

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["TABLE", "SettingsTable"]

_SETTINGS = ("one-class", "unified")
_DIFFERENCE = "difference"
_IN_WORDS = "one-class: a model for each category; unified: one for all; difference: unified minus one-class, by seed"


class SettingsTable(TableConfig):
    """A table of methods in the settings one-class and unified side by side; cells are means over categories."""

    example = {"title": "One model or many", "metrics": ["image_auroc"]}

    kind: Literal["settings"] = "settings"
    metrics: tuple[MetricName, ...] = Field(min_length=1, description="metrics, as run.json names them")
    selection: Selection = Field("last", description="selection of the scored checkpoint")

    def faults(self, key: str, runs: Runs) -> Iterator[str]:
        """Yield a fault if the experiment has no runs in one of the settings."""
        for missing in [setting for setting in _SETTINGS if setting not in runs.settings]:
            yield f"'{key}': the experiment has no runs in the setting {missing}, which the table needs"

    def make(self, name: str, source: Source) -> Table:
        """Average over the categories that all methods have in both settings; also unified minus one-class, by seed.

        Raises:
            NfbenchError: a method has runs in one setting only, or no run has a metric.
        """
        results = required(source.results, "the aggregated results")
        results = results[results.setting.isin(_SETTINGS) & (results.selection == self.selection)]
        require_metrics(name, self.metrics, results)
        for method, part in results.groupby("method"):
            missing = sorted(set(_SETTINGS) - set(part.setting))
            if missing:
                raise NfbenchError(f"table '{name}': '{method}' has no runs in the setting {missing[0]}")
        parts = [part for _, part in results.groupby(["method", "setting"])]
        results = common_categories(name, parts, results)
        columns = tuple(
            Column(metric_title(metric), metric, setting, self.selection)
            for metric in self.metrics
            for setting in (*_SETTINGS, _DIFFERENCE)
        )
        rows = tuple(
            Row((dataset, part.title.iloc[0]), tuple(_cell(part, column) for column in columns))
            for dataset, of_dataset in results.groupby("dataset", sort=False)
            for _, part in of_dataset.groupby(["method", "backbone"], sort=False)
        )
        both = (
            "one-class: a model for each category; unified: one for all; difference: unified minus one-class, by seed"
        )
        selections = (self.selection,)
        caption = caption_of_means(self.title, self.metrics, results, source.notes, selections, setting=both)
        heads, keys = ("dataset", "method"), ("metric", "setting", "selection")
        return Table(name, caption, columns, rows, heads=heads, keys=keys)


def _cell(part: pd.DataFrame, column: Column) -> Comparison:
    """The mean in a setting, or the mean difference over seeds that both settings have."""
    runs = part[part.metric == column.method]
    if column.backbone != _DIFFERENCE:
        return compare_runs(runs[runs.setting == column.backbone])
    by_seed = {setting: found.groupby("seed").value.mean() for setting, found in runs.groupby("setting")}
    differences = (by_seed["unified"] - by_seed["one-class"]).dropna()
    return compare(differences, factor=unit_factor(runs), runs=runs)


TABLE = SettingsTable

"""The content of a table of settings: one model for each category beside one for all, method by method."""

import pandas as pd

from nfbench.config import SettingsTableConfig
from nfbench.core.errors import NfbenchError
from nfbench.metrics import find_metric
from nfbench.results.compare import Comparison, compare
from nfbench.tables.captions import metric_title, settings_caption
from nfbench.tables.comparison import common_categories, require_metrics
from nfbench.tables.datasets import DatasetNotes
from nfbench.tables.model import Column, Row, Table

__all__ = ["make_settings_table"]

_KEYS = ("dataset", "method", "metric", "setting", "selection")
_SETTINGS = ("one-class", "unified")
_DIFFERENCE = "difference"


def make_settings_table(name: str, config: SettingsTableConfig, results: pd.DataFrame, notes: DatasetNotes) -> Table:
    """Averages over the categories that all methods have in both settings, and unified minus one-class, by seed.

    Args:
        name: name of the table.
        config: metrics and selection.
        results: aggregated results.
        notes: of datasets that are not official ones as they are.

    Raises:
        NfbenchError: a method has runs of one setting only, or no run has a metric.
    """
    results = results[results.setting.isin(_SETTINGS) & (results.selection == config.selection)]
    require_metrics(name, config.metrics, results)
    for method, part in results.groupby("method"):
        missing = sorted(set(_SETTINGS) - set(part.setting))
        if missing:
            raise NfbenchError(f"table '{name}': '{method}' has no runs in the setting {missing[0]}")
    parts = [part for _, part in results.groupby(["method", "setting"])]
    results = common_categories(name, parts, results)
    columns = [
        Column(metric, setting, metric_title(metric), "", config.selection)
        for metric in config.metrics
        for setting in (*_SETTINGS, _DIFFERENCE)
    ]
    rows = [
        _row(dataset, part, columns)
        for dataset, of_dataset in results.groupby("dataset", sort=False)
        for _, part in of_dataset.groupby(["method", "backbone"], sort=False)
    ]
    return Table(name, settings_caption(config, results, notes), tuple(columns), (), "", tuple(rows), _KEYS)


def _row(dataset: str, part: pd.DataFrame, columns: list[Column]) -> Row:
    of_column = {setting: (setting,) for setting in _SETTINGS} | {_DIFFERENCE: _SETTINGS}
    runs = [part[(part.metric == c.method) & part.setting.isin(of_column[c.backbone])] for c in columns]
    cells = [_cell(of_cell, column) for of_cell, column in zip(runs, columns, strict=True)]
    return Row(dataset, part.title.iloc[0], tuple(cells), (), tuple(runs))


def _cell(runs: pd.DataFrame, column: Column) -> Comparison:
    by_seed = {setting: found.groupby("seed").value.mean() for setting, found in runs.groupby("setting")}
    if column.backbone == _DIFFERENCE:
        values = (by_seed["unified"] - by_seed["one-class"]).dropna()  # of seeds that both have
    else:
        values = by_seed[column.backbone]
    return compare(values, None, (0, 0), factor=find_metric(column.method).metric.unit.factor)

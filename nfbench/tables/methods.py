"""The content of a table of methods: they are the rows, metrics and costs the columns."""

import math
from collections.abc import Sequence

import pandas as pd

from nfbench.config import MethodRow, MethodsTableConfig
from nfbench.core.errors import NfbenchError
from nfbench.core.registry import nearest
from nfbench.metrics import find_metric
from nfbench.results.compare import Comparison, compare
from nfbench.tables.captions import methods_caption, metric_title
from nfbench.tables.comparison import (
    common_categories,
    of_setting,
    printed_cell,
    require_metrics,
    shown_backbone,
)
from nfbench.tables.datasets import DatasetNotes, is_whole
from nfbench.tables.model import Column, Row, Table

__all__ = ["COSTS", "make_methods_table"]

COSTS = {
    "parameters": ("trainable parameters in millions", 1e-6),
    "train_seconds": ("training in s", 1.0),
    "score_images_per_second": ("scoring in images/s", 1.0),
    "peak_memory_mb": ("peak memory in GB", 1e-3),
    "search_trials": ("trials per category", 1.0),
    "search_pruned": ("of them pruned", 1.0),
    "search_failed": ("of them failed", 1.0),
    "search_seconds": ("search per category in s", 1.0),
}
"""Columns of the results that are costs of a run: how they are printed, and in which unit."""

_KEYS = ("dataset", "method", "column", "metric", "selection")


def make_methods_table(name: str, config: MethodsTableConfig, results: pd.DataFrame, notes: DatasetNotes) -> Table:
    """Averages over the categories of a dataset, by seed; one row per method on each backbone, or the rows asked for.

    Rows that are asked for are means over the categories that all of them have. A published mean is one over all
    official categories. Where fewer were measured, or not all of their images, it is shown, but without a difference
    and a status.

    Args:
        name: name of the table.
        config: metrics, costs, rows, published values.
        results: aggregated results.
        notes: of datasets that are not official ones as they are.

    Raises:
        NfbenchError: no run has a metric or is of a dataset, or a row has no runs, or runs on several backbones, or a
            row of the published table is not there; or the results are of several settings.
    """
    results = of_setting(name, config.setting, results)
    if config.datasets:
        for dataset in set(config.datasets) - set(results.dataset):
            raise NfbenchError(f"table '{name}': no run is of the dataset '{dataset}' of its 'datasets'")
        results = results[results.dataset.isin(config.datasets)]
    require_metrics(name, config.metrics, results)
    if config.rows:
        results = _of_rows(name, config.rows, results)
    columns = [Column(metric, metric, metric_title(metric), "", config.selection) for metric in config.metrics]
    columns += [Column(cost, cost, COSTS[cost][0], "", "") for cost in config.costs]
    rows, sources = [], set()
    for dataset, of_dataset in results.groupby("dataset", sort=False):
        comparable = is_whole(dataset, of_dataset, notes)
        for row, part in _groups(config.rows, of_dataset):
            chosen = part[part.selection == config.selection]
            cells, runs = [], []
            for metric in config.metrics:
                printed = printed_cell(name, config.published, row.published, metric, part)
                published = printed.in_percent() if printed else None
                values = chosen[chosen.metric == metric]
                by_seed = values.groupby("seed").value.mean()
                factor = find_metric(metric).metric.unit.factor
                cells.append(compare(by_seed, published, config.tolerance, factor=factor, comparable=comparable))
                runs.append(values)
                sources |= {printed.source} if printed else set()
            for cost in config.costs:
                of_cost = _runs_of_cost(chosen, cost)
                cells.append(_cost(of_cost, cost))
                runs.append(of_cost)
            rows.append(Row(dataset, _label(part, results), tuple(cells), (), tuple(runs)))
    caption = methods_caption(config, results, notes, sources)
    return Table(name, caption, tuple(columns), (), " and ".join(sorted(sources)), tuple(rows), _KEYS)


def _of_rows(name: str, rows: Sequence[MethodRow], results: pd.DataFrame) -> pd.DataFrame:
    """Results of the rows, in their order and under their titles, of the categories that all of them have."""
    results, parts = results.reset_index(drop=True), []
    for row in rows:
        mine = _is_of(row, results)
        if not mine.any():
            on = f" on '{row.backbone.tag}'" if row.backbone else ""
            hint = nearest(row.method, set(results.method))
            raise NfbenchError(f"table '{name}': no run has the method '{row.method}' of 'rows'{on}{hint}")
        if results[mine].groupby(["dataset", "category"]).backbone.nunique().max() > 1:
            tags = ", ".join(results[mine].backbone.unique())
            raise NfbenchError(f"table '{name}': '{row.method}' was run on {tags}; say which by 'backbone' of its row")
        if row.title:
            results.loc[mine, "title"] = row.title
        parts.append(results[mine])
    of_rows = pd.concat(parts)
    return common_categories(name, parts, of_rows[~of_rows.index.duplicated()])


def _is_of(row: MethodRow, results: pd.DataFrame) -> pd.Series:
    same = results.method == row.method
    return same & (results.backbone == row.backbone.tag) if row.backbone else same


def _groups(rows: Sequence[MethodRow], results: pd.DataFrame) -> list[tuple[MethodRow, pd.DataFrame]]:
    """Results by row; without rows, by method and backbone."""
    if rows:
        return [(row, results[_is_of(row, results)]) for row in rows]
    by_method = results.groupby(["method", shown_backbone(results)], sort=False)
    return [(MethodRow(method=method), part) for (method, _), part in by_method]


def _runs_of_cost(part: pd.DataFrame, cost: str) -> pd.DataFrame:
    """One row per run, with the cost as its metric and value, in the unit that is printed."""
    runs = part.drop_duplicates(["category", "seed"])
    return runs.assign(metric=cost, value=COSTS[cost][1] * runs[cost])


def _cost(runs: pd.DataFrame, cost: str) -> Comparison:
    """Mean over the categories by seed, then over seeds; the largest instead of the mean for memory."""
    by_seed = runs.groupby("seed").value
    values = by_seed.max() if cost == "peak_memory_mb" else by_seed.mean()
    std = float(values.std(ddof=1)) if len(values) > 1 else math.nan
    return Comparison(float(values.mean()), std, len(values), None, math.nan, "measured")


def _label(part: pd.DataFrame, results: pd.DataFrame) -> str:
    """The method, and its backbone where it was run on several."""
    first = part.iloc[0]
    several = results[results.method == first.method].backbone.nunique() > 1
    return f"{first.title} ({shown_backbone(part).iloc[0]})" if several else first.title

"""The content of a table of backbones or level sets: they are the rows, metrics the columns."""

from dataclasses import replace

import pandas as pd

from nfbench.config import BackboneRow, BackbonesTableConfig
from nfbench.core.errors import NfbenchError
from nfbench.metrics import find_metric
from nfbench.results.compare import compare
from nfbench.tables.captions import backbones_caption, metric_title
from nfbench.tables.comparison import common_categories, of_setting, printed_cell, require_metrics
from nfbench.tables.datasets import DatasetNotes, is_whole
from nfbench.tables.model import Column, Row, Table

__all__ = ["make_backbones_table"]

_KEYS = ("dataset", "backbone", "metric", "method", "selection")


def make_backbones_table(name: str, config: BackbonesTableConfig, results: pd.DataFrame, notes: DatasetNotes) -> Table:
    """Averages over the categories that all rows have, and compares with published averages where they are alike.

    A published average is one over all official categories. Where fewer were measured, or not all of their images, it
    is shown, but without a difference and a status.

    Args:
        name: name of the table.
        config: metrics, rows, published values.
        results: aggregated results.
        notes: of datasets that are not official ones as they are.

    Raises:
        NfbenchError: a row has no runs, or none has a metric, or a row of the published table is not there; or the
            results are of several settings.
    """
    results = _of_rows(name, config, of_setting(name, config.setting, results))
    methods = results.drop_duplicates("method").set_index("method")[["title", "method_title"]]
    columns = [
        Column(method.Index, method.title, metric_title(metric), method.method_title, selection, metric)
        for method in methods.itertuples()
        for metric in config.metrics
        for selection in config.selections
    ]
    rows, sources = [], set()
    for dataset, part in results.groupby("dataset", sort=False):
        comparable = is_whole(dataset, part, notes)
        for row in config.rows:
            cells, runs = [], []
            for column in columns:
                same = (part.backbone == row.backbone.tag) & (part.method == column.method)
                values = part[same & (part.metric == column.metric) & (part.selection == column.selection)]
                where = {"method": column.published_as, **row.published} if row.published else None
                printed = printed_cell(name, config.published, where, column.metric, part)
                published = printed.in_percent() if printed else None
                by_seed = values.groupby("seed").value.mean()
                factor = find_metric(column.metric).metric.unit.factor
                cells.append(compare(by_seed, published, config.tolerance, factor=factor, comparable=comparable))
                runs.append(values)
                sources |= {printed.source} if printed else set()
            rows.append(Row(dataset, _label(row), tuple(cells), (), tuple(runs)))
    caption = backbones_caption(config, results, notes, sources)
    shown = tuple(replace(column, metric="") for column in columns)  # the heading has the metric
    return Table(name, caption, shown, (), " and ".join(sorted(sources)), tuple(rows), _KEYS)


def _of_rows(name: str, config: BackbonesTableConfig, results: pd.DataFrame) -> pd.DataFrame:
    """Results on the backbones of the rows, of the categories that all methods have on all of these."""
    results = results[results.backbone.isin([row.backbone.tag for row in config.rows])]
    for row in config.rows:
        if row.backbone.tag not in set(results.backbone):
            raise NfbenchError(f"table '{name}': no run has the backbone '{row.backbone.tag}' of 'rows'")
    require_metrics(name, config.metrics, results)
    return common_categories(name, [part for _, part in results.groupby(["method", "backbone"])], results)


def _label(row: BackboneRow) -> str:
    return f"{row.title} ({row.backbone.tag})" if row.title else row.backbone.tag

"""The content of a table of backbones or level sets: they are the rows, metrics the columns."""

from collections.abc import Iterable
from dataclasses import replace

import pandas as pd

from nfbench.config import BackboneRow, BackbonesTableConfig
from nfbench.core.errors import NfbenchError
from nfbench.core.registry import nearest
from nfbench.results.compare import compare
from nfbench.tables.captions import (
    METRICS,
    anomalies_note,
    backbone_notes,
    data_notes,
    epochs_note,
    image_score_note,
    join_notes,
    metric_title,
    search_note,
    selections_note,
    setting_note,
    spread,
    status_note,
)
from nfbench.tables.comparison import common_categories, comparability, is_whole, of_setting, printed_cell
from nfbench.tables.datasets import DatasetNotes
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
                cells.append(compare(by_seed, published, config.tolerance, comparable=comparable))
                runs.append(values)
                sources |= {printed.source} if printed else set()
            rows.append(Row(dataset, _label(row), tuple(cells), (), tuple(runs)))
    caption = _caption(config, results, notes, sources)
    shown = tuple(replace(column, metric="") for column in columns)  # the heading has the metric
    return Table(name, caption, shown, (), " and ".join(sorted(sources)), tuple(rows), _KEYS)


def _of_rows(name: str, config: BackbonesTableConfig, results: pd.DataFrame) -> pd.DataFrame:
    """Results on the backbones of the rows, of the categories that all methods have on all of these."""
    results = results[results.backbone.isin([row.backbone.tag for row in config.rows])]
    for row in config.rows:
        if row.backbone.tag not in set(results.backbone):
            raise NfbenchError(f"table '{name}': no run has the backbone '{row.backbone.tag}' of 'rows'")
    for metric in config.metrics:
        if metric not in set(results.metric):
            raise NfbenchError(f"table '{name}': no run has the metric '{metric}'{nearest(metric, METRICS)}")
    return common_categories(name, [part for _, part in results.groupby(["method", "backbone"])], results)


def _label(row: BackboneRow) -> str:
    return f"{row.title} ({row.backbone.tag})" if row.title else row.backbone.tag


def _caption(config: BackbonesTableConfig, results: pd.DataFrame, notes: DatasetNotes, sources: Iterable[str]) -> str:
    titles = ", ".join(metric_title(metric) for metric in config.metrics)
    parts = [
        f"{config.title}: {titles} in percent, means over categories, {spread(results)}",
        setting_note(results),
        anomalies_note(results),
        search_note(results),
        selections_note(config.selections),
        "data: " + "; ".join(data_notes(results, notes, named=True)),
        "backbone " + ", ".join(backbone_notes(results)),
        f"{epochs_note(results)}; metrics at the original image size",
        image_score_note(results),
    ]
    if sources:
        parts.append(
            f"published values from {' and '.join(sorted(sources))}, obtained with the paper's own settings and "
            f"selection; {comparability(results, notes)}; {status_note(config.tolerance)}"
        )
    return join_notes(parts)

"""The content of a table of backbones or level sets: they are the rows, metrics the columns."""

from collections.abc import Iterable
from dataclasses import replace

import pandas as pd

from nfbench.config import BackboneRow, BackbonesTableConfig
from nfbench.errors import NfbenchError
from nfbench.reference import PrintedValue, find_printed
from nfbench.registry import nearest
from nfbench.results.compare import compare
from nfbench.tables.captions import (
    METRICS,
    backbone_notes,
    data_notes,
    epochs_note,
    image_score_note,
    join_notes,
    metric_title,
    official_categories,
    selections_note,
    spread,
    status_note,
)
from nfbench.tables.model import Column, Row, Table

__all__ = ["make_backbones_table"]

_KEYS = ("dataset", "backbone", "metric", "method", "selection")


def make_backbones_table(
    name: str, config: BackbonesTableConfig, results: pd.DataFrame, subsets: dict[str, str]
) -> Table:
    """Averages over the categories that all rows have, and compares with published averages where they are alike.

    A published average is one over all official categories. Where fewer were measured, or not all of their images, it
    is shown, but without a difference and a status.

    Args:
        name: name of the table.
        config: metrics, rows, published values.
        results: aggregated results.
        subsets: for datasets of which images are left out, what is kept, by name.

    Raises:
        NfbenchError: a row has no runs, or none has a metric, or a row of the published table is not there.
    """
    results = _of_rows(name, config, results)
    methods = results.drop_duplicates("method").set_index("method")[["title", "method_title"]]
    columns = [
        Column(method.Index, method.title, metric_title(metric), method.method_title, selection, metric)
        for method in methods.itertuples()
        for metric in config.metrics
        for selection in config.selections
    ]
    rows, sources = [], set()
    for dataset, part in results.groupby("dataset", sort=False):
        comparable = _is_whole(dataset, part, subsets)
        for row in config.rows:
            cells = []
            for column in columns:
                same = (part.backbone == row.backbone.tag) & (part.method == column.method)
                values = part[same & (part.metric == column.metric) & (part.selection == column.selection)]
                printed = _printed(config.published, row, column)
                published = printed.in_percent() if printed else None
                by_seed = values.groupby("seed").value.mean()
                cells.append(compare(by_seed, published, config.tolerance, comparable=comparable))
                sources |= {printed.source} if printed else set()
            rows.append(Row(dataset, _label(row), tuple(cells), ()))
    caption = _caption(config, results, subsets, sources)
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
    of_model = results.groupby(["method", "backbone"])[["dataset", "category"]]
    common = set.intersection(*(set(part.itertuples(index=False, name=None)) for _, part in of_model))
    if not common:
        raise NfbenchError(f"table '{name}': its rows have no category in common")
    return results[[pair in common for pair in zip(results.dataset, results.category, strict=True)]]


def _label(row: BackboneRow) -> str:
    return f"{row.title} ({row.backbone.tag})" if row.title else row.backbone.tag


def _is_whole(dataset: str, part: pd.DataFrame, subsets: dict[str, str]) -> bool:
    official = official_categories(dataset)
    return bool(official) and dataset not in subsets and set(official) == set(part.category)


def _printed(published: str | None, row: BackboneRow, column: Column) -> PrintedValue | None:
    if published is None or row.published is None:
        return None
    return find_printed(published, {"method": column.published_as, "metric": column.metric, **row.published})


def _caption(
    config: BackbonesTableConfig, results: pd.DataFrame, subsets: dict[str, str], sources: Iterable[str]
) -> str:
    titles = ", ".join(metric_title(metric) for metric in config.metrics)
    notes = [
        f"{config.title}: {titles} in percent, means over categories, {spread(results)}",
        f"setting {', '.join(results.setting.unique())}",
        selections_note(config.selections),
        "data: " + "; ".join(data_notes(results, subsets, named=True)),
        "backbone " + ", ".join(backbone_notes(results)),
        f"{epochs_note(results)}; metrics at the original image size",
        image_score_note(results),
    ]
    if sources:
        notes.append(
            f"published values from {' and '.join(sorted(sources))}, obtained with the paper's own settings and "
            f"selection; {_comparability(results, subsets)}; {status_note(config.tolerance)}"
        )
    return join_notes(notes)


def _comparability(results: pd.DataFrame, subsets: dict[str, str]) -> str:
    notes = []
    for dataset, part in results.groupby("dataset", sort=False):
        if _is_whole(dataset, part, subsets):
            continue
        measured, official = part.category.nunique(), len(official_categories(dataset))
        of = f"{measured} of {official} categories" if official else f"{measured} categories"
        images = " and a subset of their images" if dataset in subsets else ""
        over = f"all {official}" if official else "all official categories"
        notes.append(
            f"on {dataset}, mean over {of}{images}, the published mean is over {over}: no difference, no status"
        )
    return "; ".join(notes) or "means over all official categories on both sides"

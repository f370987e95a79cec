"""Tables of results: categories as rows, methods as columns, published values next to measured ones."""

import numpy as np
import pandas as pd

from nfbench.config import TableConfig
from nfbench.core.errors import NfbenchError
from nfbench.core.registry import nearest, plugin_names
from nfbench.metrics import find_metric
from nfbench.reference import PublishedTable, PublishedValue, published_table
from nfbench.results.compare import compare
from nfbench.tables.captions import results_caption
from nfbench.tables.comparison import of_setting, printed_settings, require_metrics, shown_backbone
from nfbench.tables.datasets import DatasetNotes
from nfbench.tables.model import AVERAGE, Column, Row, Table

__all__ = ["make_results_table"]


def make_results_table(name: str, config: TableConfig, results: pd.DataFrame, notes: DatasetNotes) -> Table:
    """Selects, averages and compares.

    Datasets on which the metric is not defined are left out, and the caption says so.

    Args:
        name: name of the table.
        config: metric, selection, published values.
        results: aggregated results.
        notes: of datasets that are not official ones as they are.

    Raises:
        NfbenchError: no run has the metric, the results are of several settings, or the published table or one of its
            methods is unknown.
    """
    results = of_setting(name, config.setting, results)
    for method in config.metric_of:
        if method not in plugin_names("nfbench.methods"):
            hint = nearest(method, plugin_names("nfbench.methods"))
            raise NfbenchError(f"table '{name}': 'metric_of' names no method '{method}'{hint}")
    own_metric = results.variant_of.map(config.metric_of).fillna(config.metric)
    require_metrics(name, own_metric.unique(), results)
    chosen = results[results.metric == own_metric]
    without = sorted(set(results.dataset) - set(chosen.dataset))
    results = results[~results.dataset.isin(without)]
    by_dataset = {dataset: _published_of(dataset, config, results) for dataset in results.dataset.unique()}
    published = next(iter(by_dataset.values()), None)
    _check_published_as(name, config, results, published)
    columns = _columns(results, config)
    measured = {column.published_as for column in columns}
    others = [method for method in published.methods(config.metric) if method not in measured] if published else []
    rows: list[Row] = []
    for dataset, of_dataset in results.groupby("dataset", sort=False):
        categories = list(of_dataset.category.unique())
        part = chosen[chosen.dataset == dataset]
        for category in categories:
            rows.append(_row(dataset, category, [category], part, columns, others, by_dataset[dataset], config))
        if len(categories) > 1:
            rows.append(_row(dataset, AVERAGE, categories, part, columns, others, by_dataset[dataset], config))
    source = f"{published.paper}, {published.table}" if published else ""
    caption = results_caption(config, results, notes, source) + _shared_columns(columns, results)
    if without:
        have = "has" if len(without) == 1 else "have"
        caption += f" Not defined on {', '.join(without)}, which {have} no masks."
    return Table(name, caption, tuple(columns), tuple(others), published.paper if published else "", tuple(rows))


def _published_of(dataset: str, config: TableConfig, results: pd.DataFrame) -> PublishedTable | None:
    """What is published of one dataset."""
    if config.published is None:
        return None
    of = config.published_datasets.get(dataset)
    return published_table(config.published, printed_settings(results), of, config.published_by)


def _check_published_as(
    name: str, config: TableConfig, results: pd.DataFrame, published: PublishedTable | None
) -> None:
    methods = set(results.method)
    titles = published.methods(config.metric) if published else []
    for method, printed in config.published_as.items():
        if method not in methods:
            hint = nearest(method, methods)
            raise NfbenchError(f"table '{name}': 'published_as' names no method of its runs, '{method}'{hint}")
        for title in printed.values() if isinstance(printed, dict) else [printed]:
            if title not in titles:
                raise NfbenchError(
                    f"table '{name}': 'published_as' of '{method}' names no published method '{title}'"
                    f"{nearest(title, titles)}"
                )


def _published_as(config: TableConfig, method: str, backbone: str, title: str) -> str:
    """The method as papers print it; by the name of its backbone where the table says so."""
    printed = config.published_as.get(method, title)
    return printed.get(_backbone_name(backbone), title) if isinstance(printed, dict) else printed


def _columns(results: pd.DataFrame, config: TableConfig) -> list[Column]:
    found = results[["method", "backbone", "title", "method_title", "variant_of"]].drop_duplicates()
    shared = _shared_tags(results)
    columns: dict[tuple[str, str], list[Column]] = {}
    for row in found.itertuples():
        tags = shared.get((row.method, row.backbone), (row.backbone,))
        backbone = row.backbone if len(tags) == 1 else _name_and_sizes(tags, results)
        metric = config.metric_of.get(row.variant_of, "")
        printed = _published_as(config, row.method, row.backbone, row.method_title)
        columns[row.method, backbone] = [
            Column(row.method, backbone, row.title, printed, selection, metric, tags) for selection in config.selections
        ]
    return [column for group in columns.values() for column in group]


def _shared_tags(results: pd.DataFrame) -> dict[tuple[str, str], tuple[str, ...]]:
    """For methods whose backbone comes at another size for other categories, all its tags, by method and tag.

    They share a column where no category has two of them; so do the best backbones of a search, whatever they are.
    """
    shared = {}
    names = shown_backbone(results).map(_backbone_name)
    for (method, _), part in results.groupby(["method", names], sort=False):
        tags = tuple(part.backbone.unique())
        if part.groupby(["dataset", "category"]).backbone.nunique().max() == 1:
            shared |= {(method, tag): tags for tag in tags}
    return shared


def _backbone_name(tag: str) -> str:
    return tag.partition("@")[0]


def _name_and_sizes(tags: tuple[str, ...], results: pd.DataFrame) -> str:
    by_name: dict[str, list[str]] = {}
    shown = results[results.backbone.isin(tags)].sort_values("input_size")
    for tag, size in dict.fromkeys(zip(shown.backbone, shown.input_size, strict=True)):
        by_name.setdefault(_backbone_name(tag), []).append(str(size))
    return " or ".join(f"{name}@{'/'.join(dict.fromkeys(sizes))}" for name, sizes in by_name.items())


def _shared_columns(columns: list[Column], results: pd.DataFrame) -> str:
    """Which category had which backbone, for columns that show several."""
    notes = []
    for column in {(c.method, c.tags): c for c in columns if len(c.tags) > 1}.values():
        part = results[results.method == column.method]
        by_tag = (f"{tag} on {', '.join(part[part.backbone == tag].category.unique())}" for tag in column.tags)
        notes.append(f" {column.title}: {'; '.join(by_tag)}.")
    return "".join(notes)


def _row(
    dataset: str,
    category: str,
    categories: list[str],
    part: pd.DataFrame,
    columns: list[Column],
    others: list[str],
    published: PublishedTable | None,
    config: TableConfig,
) -> Row:
    cells, runs = [], []
    for column in columns:
        same = (part.method == column.method) & part.backbone.isin(column.tags)
        values = part[same & (part.selection == column.selection) & part.category.isin(categories)]
        if values.category.nunique() < len(categories):
            values = values.iloc[:0]  # an average over some of the rows above it would look like one over all
        by_seed = values.groupby("seed").value.mean()
        reference = _published(published, column.published_as, categories, config.metric)
        factor = find_metric(column.metric or config.metric).metric.unit.factor
        cells.append(compare(by_seed, reference, config.tolerance, factor=factor))
        runs.append(values)
    other_values = tuple(_published(published, method, categories, config.metric) for method in others)
    return Row(dataset, category, tuple(cells), other_values, tuple(runs))


def _published(
    published: PublishedTable | None, method: str, categories: list[str], metric: str
) -> PublishedValue | None:
    """The published value of a category, or the average over the same categories; None where one of them is missing."""
    if published is None:
        return None
    values = [published.value(method, category, metric) for category in categories]
    if any(value is None for value in values):
        return None
    notes = "; ".join(sorted({value.note for value in values if value.note}))
    return PublishedValue(float(np.mean([v.value for v in values])), all(v.trusted for v in values), notes)

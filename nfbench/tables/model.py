"""The content of a table: categories as rows, methods as columns, and a caption that says what it was measured on."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from nfbench.config import TableConfig
from nfbench.datasets.base import find_dataset
from nfbench.errors import NfbenchError
from nfbench.reference import PublishedTable, PublishedValue, published_table
from nfbench.registry import nearest, plugin_names
from nfbench.results.compare import Comparison, compare

__all__ = ["Column", "Row", "Table", "make_table", "metric_title"]

_METRICS = {
    "image_auroc": "image AUROC",
    "image_ap": "image AP",
    "pixel_auroc": "pixel AUROC",
    "pixel_ap": "pixel AP",
    "image_f1": "image F1 at the best threshold",
    "pixel_f1": "pixel F1 at the best threshold",
    "pixel_aupro": "AUPRO",
    "pixel_aupro_05": "AUPRO up to a false positive rate of 0.05",
    "miou_oracle": "mean IoU of the anomaly map at the best threshold on the test set",
    "miou_fair": "mean IoU of the anomaly map at one false positive pixel per normal training image",
    "miou_nfa": "mean IoU of the a contrario mask, NFA < 1",
    "miou_nfa_guard": "mean IoU of the a contrario mask, NFA < 1, with the Chernoff guard",
    "miou_nfa_oracle": "mean IoU of the log-NFA map at the best threshold on the test set",
    "false_alarms_fair": "detected regions per 100 normal test images, at one false positive pixel per training image",
    "false_alarms_nfa": "detected regions per 100 normal test images, NFA < 1",
    "false_alarms_nfa_guard": "detected regions per 100 normal test images, NFA < 1, with the Chernoff guard",
}
_RULES = {"max": "maximum of the map", "mean": "mean of the map", "top1": "mean of the map's top 1 %"}
_AGGREGATIONS = {"anomalous": "anomalous images", "pooled": "pixels pooled"}
_SHORT = {"miou_nfa": "NFA < 1", "miou_nfa_guard": "NFA < 1, guard", "miou_nfa_oracle": "best NFA"}
_SELECTIONS = {
    "last": "the last epoch",
    "val": "checkpoint with the best likelihood on held-out normal images",
    "oracle": "best checkpoint on the test set (optimistic)",
}
AVERAGE = "average"


@dataclass(frozen=True)
class Column:
    """A measured method on a backbone, with the checkpoint of one selection; ``metric`` where it is not the table's."""

    method: str
    backbone: str
    title: str
    published_as: str
    selection: str
    metric: str = ""


@dataclass(frozen=True)
class Row:
    """One category, or the average over the categories above it.

    Attributes:
        dataset: title of the dataset.
        category: name of the category, ``average`` for the average.
        cells: one per measured column.
        published: one per column of ``Table.others``.
    """

    dataset: str
    category: str
    cells: tuple[Comparison, ...]
    published: tuple[PublishedValue | None, ...]


@dataclass(frozen=True)
class Table:
    """A table, ready to be written.

    Attributes:
        name: file name without ending, also the LaTeX label.
        caption: title, and what a reader must know before comparing.
        columns: measured columns.
        others: published methods that were not measured here.
        source: the paper of the published values, empty without.
        rows: categories, with an average after each dataset of more than one.
    """

    name: str
    caption: str
    columns: tuple[Column, ...]
    others: tuple[str, ...]
    source: str
    rows: tuple[Row, ...]

    def details(self, column: Column) -> str:
        """Second line of a column's heading: its selection, its backbone where there are several, its own metric."""
        several = len({other.backbone for other in self.columns}) > 1
        parts = [column.backbone if several else "", column.selection, _SHORT.get(column.metric, column.metric)]
        return ", ".join(part for part in parts if part)


def make_table(name: str, config: TableConfig, results: pd.DataFrame, subsets: dict[str, str]) -> Table:
    """Selects, averages and compares.

    Datasets on which the metric is not defined are left out, and the caption says so.

    Args:
        name: name of the table.
        config: metric, selection, published values.
        results: aggregated results.
        subsets: for datasets of which images are left out, what is kept, by name.

    Raises:
        NfbenchError: no run has the metric, or the published table is unknown.
    """
    for method in config.metric_of:
        if method not in plugin_names("nfbench.methods"):
            hint = nearest(method, plugin_names("nfbench.methods"))
            raise NfbenchError(f"table '{name}': 'metric_of' names no method '{method}'{hint}")
    own_metric = results.variant_of.map(config.metric_of).fillna(config.metric)
    for metric in own_metric.unique():
        if metric not in set(results.metric):
            raise NfbenchError(f"table '{name}': no run has the metric '{metric}'{nearest(metric, _METRICS)}")
    chosen = results[results.metric == own_metric]
    without = sorted(set(results.dataset) - set(chosen.dataset))
    results = results[~results.dataset.isin(without)]
    published = published_table(config.published) if config.published else None
    columns = _columns(results, config)
    measured = {column.published_as for column in columns}
    others = [method for method in published.methods(config.metric) if method not in measured] if published else []
    rows: list[Row] = []
    for dataset, of_dataset in results.groupby("dataset", sort=False):
        categories = list(of_dataset.category.unique())
        part = chosen[chosen.dataset == dataset]
        for category in categories:
            rows.append(_row(dataset, category, [category], part, columns, others, published, config))
        if len(categories) > 1:
            rows.append(_row(dataset, AVERAGE, categories, part, columns, others, published, config))
    source = f"{published.paper}, {published.table}" if published else ""
    caption = _caption(config, results, subsets, source)
    if without:
        caption += f" Not defined, for want of masks, on {', '.join(without)}."
    return Table(name, caption, tuple(columns), tuple(others), published.paper if published else "", tuple(rows))


def metric_title(metric: str) -> str:
    """A metric's name as it is printed, with the rule of the image score where it is not the method's own."""
    base, _, suffix = metric.rpartition("_")
    qualified = {**_RULES, **_AGGREGATIONS}.get(suffix)
    return f"{_METRICS[base]} ({qualified})" if qualified else _METRICS.get(metric, metric)


def _columns(results: pd.DataFrame, config: TableConfig) -> list[Column]:
    found = results[["method", "backbone", "title", "method_title", "variant_of"]].drop_duplicates()
    return [
        Column(
            row.method, row.backbone, row.title, row.method_title, selection, config.metric_of.get(row.variant_of, "")
        )
        for row in found.itertuples()
        for selection in config.selections
    ]


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
    cells = []
    for column in columns:
        same = (part.method == column.method) & (part.backbone == column.backbone)
        values = part[same & (part.selection == column.selection) & part.category.isin(categories)]
        by_seed = values.groupby("seed").value.mean()
        reference = _published(published, column.published_as, categories, config.metric)
        cells.append(compare(by_seed, reference, config.tolerance))
    other_values = tuple(_published(published, method, categories, config.metric) for method in others)
    return Row(dataset, category, tuple(cells), other_values)


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


def _caption(config: TableConfig, results: pd.DataFrame, subsets: dict[str, str], source: str) -> str:
    n_seeds = results.seed.nunique()
    counts = config.metric.startswith("false_alarms")
    size = "method's own map" if counts else "original image"
    spread = f"mean and standard deviation over {n_seeds} seeds" if n_seeds > 1 else "one seed"
    notes = [
        f"{config.title}: {_metric_titles(config, results)}, {spread}",
        f"setting {', '.join(results.setting.unique())}",
        "; ".join(f"{selection}: {_SELECTIONS[selection]}" for selection in config.selections),
        "backbone " + ", ".join(_backbones(results)),
        "data: " + "; ".join(_describe_data(results, subsets)),
        f"epochs {_range(results.epochs)}; {'counted' if counts else 'metrics'} at the {size} size",
    ]
    if config.metric.startswith("miou"):
        notes.append("mean over all test images, good ones included, unless said otherwise")
    if config.metric.startswith("pixel"):
        regions = results.drop_duplicates(["dataset", "category"]).n_regions
        if regions.notna().any():
            notes.append(f"{int(regions.sum())} ground-truth regions")
    if config.metric in ("image_auroc", "image_ap"):
        rules = sorted(_RULES[rule] for rule in results.image_score.unique() if rule in _RULES)
        notes.append(f"image score: {'; '.join(rules)}" if rules else "")
    if source:
        reproduced, close = config.tolerance
        notes.append(
            f"published values from {source}, obtained with the papers' own backbones, input sizes, settings and "
            f"selection; averages over the categories shown; status by the absolute difference: reproduced up to "
            f"{reproduced:g} points, close up to {close:g}, else off; values marked ? are doubtful as printed"
        )
    return ". ".join(note[0].upper() + note[1:] for note in notes if note) + "."


def _metric_titles(config: TableConfig, results: pd.DataFrame) -> str:
    unit = "" if config.metric.startswith("false_alarms") else " in percent"
    names = results.drop_duplicates("variant_of").set_index("variant_of").method_title
    others = [f"; of {names[method]}, {metric_title(m)}" for method, m in config.metric_of.items() if method in names]
    return metric_title(config.metric) + unit + "".join(others)


def _backbones(results: pd.DataFrame) -> list[str]:
    found = results[["backbone", "weights"]].drop_duplicates()
    random = " with RANDOM weights, for tests only"
    return [f"{row.backbone}{random if row.weights == 'random' else ''}" for row in found.itertuples()]


def _describe_data(results: pd.DataFrame, subsets: dict[str, str]) -> list[str]:
    described = []
    for dataset, part in results.groupby("dataset", sort=False):
        categories = part.category.unique()
        official = _official_categories(dataset)
        count = f"{len(categories)} of {official} categories" if official else f"{len(categories)} categories"
        subset = f", subset of {subsets[dataset]}" if dataset in subsets else ""
        described.append(f"{dataset}, {count}{subset}")
    return described


def _official_categories(dataset: str) -> int:
    return len(find_dataset(dataset).categories) if dataset in plugin_names("nfbench.datasets") else 0


def _range(values: pd.Series) -> str:
    low, high = int(values.min()), int(values.max())
    return f"{low}" if low == high else f"{low} to {high}"

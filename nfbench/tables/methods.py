"""The content of a table of methods: they are the rows, metrics and costs the columns."""

import math

import pandas as pd

from nfbench.config import MethodsTableConfig
from nfbench.errors import NfbenchError
from nfbench.registry import nearest
from nfbench.results.compare import Comparison, compare
from nfbench.tables.captions import (
    METRICS,
    data_notes,
    epochs_note,
    image_score_note,
    join_notes,
    metric_title,
    selections_note,
    spread,
)
from nfbench.tables.model import Column, Row, Table

__all__ = ["COSTS", "make_methods_table"]

COSTS = {
    "parameters": ("trainable parameters in millions", 1e-6),
    "train_seconds": ("training in s", 1.0),
    "score_images_per_second": ("scoring in images/s", 1.0),
    "peak_memory_mb": ("peak memory in GB", 1e-3),
}
"""Columns of the results that are costs of a run: how they are printed, and in which unit."""

_KEYS = ("dataset", "method", "column", "metric", "selection")


def make_methods_table(name: str, config: MethodsTableConfig, results: pd.DataFrame, subsets: dict[str, str]) -> Table:
    """Averages over the categories of a dataset, by seed; one row per method on each backbone.

    Args:
        name: name of the table.
        config: metrics and costs.
        results: aggregated results.
        subsets: for datasets of which images are left out, what is kept, by name.

    Raises:
        NfbenchError: no run has a metric.
    """
    for metric in config.metrics:
        if metric not in set(results.metric):
            raise NfbenchError(f"table '{name}': no run has the metric '{metric}'{nearest(metric, METRICS)}")
    columns = [Column(metric, metric, metric_title(metric), "", config.selection) for metric in config.metrics]
    columns += [Column(cost, cost, COSTS[cost][0], "", "") for cost in config.costs]
    rows = []
    for dataset, of_dataset in results.groupby("dataset", sort=False):
        for (_, _), part in of_dataset.groupby(["method", "backbone"], sort=False):
            chosen = part[part.selection == config.selection]
            cells = [_metric(chosen, metric) for metric in config.metrics] + [_cost(chosen, c) for c in config.costs]
            rows.append(Row(dataset, _label(part, results), tuple(cells), ()))
    return Table(name, _caption(config, results, subsets), tuple(columns), (), "", tuple(rows), _KEYS)


def _metric(part: pd.DataFrame, metric: str) -> Comparison:
    return compare(part[part.metric == metric].groupby("seed").value.mean(), None, (0.0, 0.0))


def _cost(part: pd.DataFrame, cost: str) -> Comparison:
    """Mean over the categories by seed, then over seeds; the largest instead of the mean for memory."""
    runs = part.drop_duplicates(["category", "seed"]).groupby("seed")[cost]
    values = COSTS[cost][1] * (runs.max() if cost == "peak_memory_mb" else runs.mean())
    std = float(values.std(ddof=1)) if len(values) > 1 else math.nan
    return Comparison(float(values.mean()), std, len(values), None, math.nan, "measured")


def _label(part: pd.DataFrame, results: pd.DataFrame) -> str:
    """The method, and its backbone where it was run on several."""
    first = part.iloc[0]
    several = results[results.method == first.method].backbone.nunique() > 1
    return f"{first.title} ({first.backbone})" if several else first.title


def _caption(config: MethodsTableConfig, results: pd.DataFrame, subsets: dict[str, str]) -> str:
    titles = ", ".join(metric_title(metric) for metric in config.metrics)
    by_method = results.drop_duplicates(["method", "backbone"]).groupby("backbone", sort=False).title
    random = " RANDOM weights, for tests only." if "random" in set(results.weights) else ""
    notes = [
        f"{config.title}: {titles} in percent, {spread(results)}, of means over categories",
        f"setting {', '.join(results.setting.unique())}",
        selections_note((config.selection,)),
        "data: " + "; ".join(data_notes(results, subsets, named=True)),
        "; ".join(f"{', '.join(found)} on {backbone}" for backbone, found in by_method),
        f"{epochs_note(results)}; metrics at the original image size",
        image_score_note(results),
        "scoring starts from cached features; memory is the largest of training and evaluation" if config.costs else "",
        f"measured on {', '.join(sorted(results.machine.unique()))}" if config.costs else "",
    ]
    return join_notes(notes) + random

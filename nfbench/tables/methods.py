"""Tables of methods: rows are methods, columns metrics and costs, cells means over categories."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from nfbench.config.backbone import BackboneConfig
from nfbench.config.metrics import MetricName
from nfbench.config.names import Name, Title
from nfbench.config.runs import Runs, unknown
from nfbench.config.tables import ComparedTableConfig, Selection
from nfbench.config.validation import Model
from nfbench.core.errors import NfbenchError
from nfbench.core.registry import nearest
from nfbench.metrics import find_metric
from nfbench.reference import find_printed
from nfbench.results.compare import Comparison
from nfbench.results.latency import LATENCIES
from nfbench.tables._captions import caption_of_means
from nfbench.tables._comparison import (
    PublishedRow,
    common_categories,
    compare_runs,
    file_fault,
    metrics_faults,
    of_setting,
    printed_cell,
    quoted_only,
    require_metrics,
    row_faults,
    shown_backbone,
)
from nfbench.tables._datasets import is_whole
from nfbench.tables._model import Column, Row, Source, Table, papers_of
from nfbench.tables._titles import metric_title

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["COSTS", "TABLE", "MethodRow", "MethodsTable"]

Cost = Literal[
    "parameters",
    "train_seconds",
    "score_images_per_second",
    "peak_memory_mb",
    "latency_ms",
    "latency_p95_ms",
    "fps_32",
    "flops",
    "model_mb",
    "search_trials",
    "search_pruned",
    "search_failed",
    "search_seconds",
]
COSTS: dict[Cost, tuple[str, float]] = {
    "parameters": ("trainable parameters in millions", 1e-6),
    "train_seconds": ("training in s", 1.0),
    "score_images_per_second": ("scoring in images/s", 1.0),
    "peak_memory_mb": ("peak memory in GB", 1e-3),
    "latency_ms": ("one image in ms", 1.0),
    "latency_p95_ms": ("95 % of images in ms", 1.0),
    "fps_32": ("images/s in batches of 32", 1.0),
    "flops": ("GFLOP of an image", 1e-9),
    "model_mb": ("model in MB", 1.0),
    "search_trials": ("trials per category", 1.0),
    "search_pruned": ("of them pruned", 1.0),
    "search_failed": ("of them failed", 1.0),
    "search_seconds": ("search per category in s", 1.0),
}
"""Columns of the results that are costs of a run: printed name, and factor of the unit."""


class MethodRow(Model):
    """A row of a table of methods."""

    method: Name = Field(description="method or variant")
    backbone: BackboneConfig | None = Field(None, description="backbone, if the method was run on several")
    title: Title | None = Field(None, description="title of the row, by default the method's or variant's")
    published: PublishedRow = None

    def is_of(self, results: pd.DataFrame) -> pd.Series:
        """Mask of the results of this row."""
        same = results.method == self.method
        return same & (results.backbone == self.backbone.tag) if self.backbone else same


class MethodsTable(ComparedTableConfig):
    """A table of methods: rows are methods, columns metrics and costs, cells means over categories."""

    example = {"title": "Methods", "metrics": ["image_auroc"], "setting": "one-class", "costs": ["train_seconds"]}

    kind: Literal["methods"] = "methods"
    metrics: tuple[MetricName, ...] = Field(min_length=1, description="metrics, as run.json names them")
    datasets: tuple[str, ...] | None = Field(None, min_length=1, description="show only runs of these datasets")
    costs: tuple[Cost, ...] = Field(
        (), description="costs of a run and of the search for its settings, in columns after the metrics"
    )
    rows: tuple[MethodRow, ...] = Field(
        (), description="methods in the order of the rows; by default all, each on each of its backbones"
    )
    selection: Selection = Field("last", description="selection of the scored checkpoint")
    published: str | None = Field(None, description="file of nfbench/reference without its extension; needs 'rows'")

    @property
    def shows_latency(self) -> bool:
        """Whether a column of ``costs`` is a latency."""
        return not set(LATENCIES).isdisjoint(self.costs)

    @model_validator(mode="after")
    def _published_rows_are_named(self) -> Self:
        named = any(row.published for row in self.rows)
        if named != (self.published is not None):
            missing = "'published', the file that has them" if named else "'rows' that name rows of the file"
            raise PydanticCustomError("published_rows", "published values need " + missing)
        return self

    def faults_in_setting(self, key: str, shown: Runs, runs: Runs) -> Iterator[str]:
        """Yield datasets and methods without runs, and published values that do not exist."""
        yield from super().faults_in_setting(key, shown, runs)
        yield from unknown(f"{key}.datasets", "dataset among the runs", self.datasets or (), shown.datasets)
        for number, row in enumerate(self.rows):
            of_row = f"{key}.rows.{number}"
            if row.method not in shown.methods:
                yield from unknown(f"{of_row}.method", "run with the method", [row.method], shown.methods)
                continue
            of_method = shown.of_method(row.method)
            if row.backbone:
                tags = [backbone.tag for backbone in of_method.backbones]
                yield from unknown(f"{of_row}.backbone", f"run of '{row.method}' on", [row.backbone.tag], tags)
            wheres = self.published_rows(row.published, of_method.datasets)
            faults = [fault for where in wheres for fault in row_faults(of_row, self.published, where)]
            yield from faults or self._value_faults(of_row, row, of_method)
        yield from metrics_faults(key, self.published, self.metrics)

    def _value_faults(self, key: str, row: MethodRow, runs: Runs) -> Iterator[str]:
        """Yield faults of the published value that each metric of a row is compared with."""
        if self.published is None or file_fault(self.published):
            return
        for metric, where in product(self.metrics, self.published_rows(row.published, runs.datasets)):
            try:
                printed = find_printed(self.published, where, find_metric(metric).printed_as)
            except NfbenchError as error:
                yield f"'{key}.published': {error}"
                continue
            if printed and printed.setting and printed.setting not in runs.printed_settings:
                found = ", ".join(sorted(runs.printed_settings))
                yield f"'{key}.published': its value has the setting {printed.setting}, the runs have {found}"

    def make(self, name: str, source: Source) -> Table:
        """Average over the categories of a dataset, by seed; one row per method and backbone, or the given rows.

        Given rows are means over the categories that all of them have. Other rows of the published table for the
        dataset follow below. Published means are over all official categories. If fewer categories or not all of their
        images were measured, they are shown without difference and status.

        Raises:
            NfbenchError: no run has a metric or a dataset; a row has no runs, or runs on several backbones; a row of
                the published table does not exist; or the results have several settings.
        """
        results = of_setting(name, self.setting, source.results)
        if self.datasets:
            for dataset in set(self.datasets) - set(results.dataset):
                raise NfbenchError(f"table '{name}': no run has the dataset '{dataset}' of 'datasets'")
            results = results[results.dataset.isin(self.datasets)]
        require_metrics(name, self.metrics, results)
        if self.rows:
            results = self._of_rows(name, results)
        rows = []
        for dataset, of_dataset in results.groupby("dataset", sort=False):
            comparable = is_whole(dataset, of_dataset, source.notes)
            for row, part in self._groups(of_dataset):
                chosen = part[part.selection == self.selection]
                cells = []
                for metric in self.metrics:
                    published = printed_cell(name, self, row.published, metric, part)
                    runs = chosen[chosen.metric == metric]
                    cells.append(compare_runs(runs, published, self.tolerance, comparable=comparable))
                cells += [_cost(chosen, cost) for cost in self.costs]
                rows.append(Row((dataset, _label(part, results)), tuple(cells)))
            named = [row.published for row in self.rows]
            rows += quoted_only(self, dataset, [*self.metrics, *[""] * len(self.costs)], named, rows, results)
        columns = [Column(metric_title(metric), metric, metric, self.selection) for metric in self.metrics]
        columns += [Column(COSTS[cost][0], cost, cost) for cost in self.costs]
        return Table(
            name,
            self._caption(results, source, papers_of(rows)),
            tuple(columns),
            tuple(rows),
            papers_of(rows),
            heads=("dataset", "method"),
            keys=("column", "metric", "selection"),
        )

    def _caption(self, results: pd.DataFrame, source: Source, papers: str) -> str:
        by_method = results.drop_duplicates(["method", "backbone"]).groupby("backbone", sort=False).title
        backbones = "; ".join(f"{', '.join(found)} on {backbone}" for backbone, found in by_method)
        costs = []
        if self.costs:
            costs.append("scoring starts from cached features; memory is the peak of training and evaluation")
        if self.shows_latency:
            costs.append("times per image are from the file to the map")
        if self.costs:
            costs.append(f"measured on {', '.join(sorted(results.machine.unique()))}")
        caption = caption_of_means(
            self.title,
            self.metrics,
            results,
            source.notes,
            (self.selection,),
            papers=papers,
            tolerance=self.tolerance,
            backbones=backbones,
            more=costs,
        )
        return caption + (" RANDOM weights, for tests only." if "random" in set(results.weights) else "")

    def _of_rows(self, name: str, results: pd.DataFrame) -> pd.DataFrame:
        """Results of the rows, in their order and with their titles, for the categories that all of them have."""
        import pandas as pd

        results, parts = results.reset_index(drop=True), []
        for row in self.rows:
            mine = row.is_of(results)
            if not mine.any():
                on = f" on '{row.backbone.tag}'" if row.backbone else ""
                hint = nearest(row.method, set(results.method))
                raise NfbenchError(f"table '{name}': no run has the method '{row.method}' of 'rows'{on}{hint}")
            if results[mine].groupby(["dataset", "category"]).backbone.nunique().max() > 1:
                tags = ", ".join(results[mine].backbone.unique())
                raise NfbenchError(
                    f"table '{name}': '{row.method}' was run on {tags}; choose one with 'backbone' in its row"
                )
            if row.title:
                results.loc[mine, "title"] = row.title
            parts.append(results[mine])
        of_rows = pd.concat(parts)
        return common_categories(name, parts, of_rows[~of_rows.index.duplicated()])

    def _groups(self, results: pd.DataFrame) -> list[tuple[MethodRow, pd.DataFrame]]:
        """Group results by row; without rows, by method and backbone."""
        if self.rows:
            return [(row, results[row.is_of(results)]) for row in self.rows]
        by_method = results.groupby(["method", shown_backbone(results)], sort=False)
        return [(MethodRow(method=method), part) for (method, _), part in by_method]


def _cost(part: pd.DataFrame, cost: Cost) -> Comparison:
    """Average a cost over the categories by seed, then over seeds; for memory, take the maximum over categories."""
    runs = part.drop_duplicates(["category", "seed"])
    runs = runs.assign(metric=cost, value=COSTS[cost][1] * runs[cost])
    by_seed = runs.groupby("seed").value
    values = by_seed.max() if cost == "peak_memory_mb" else by_seed.mean()
    std = float(values.std(ddof=1)) if len(values) > 1 else math.nan
    return Comparison(float(values.mean()), std, len(values), None, math.nan, "measured", runs=runs)


def _label(part: pd.DataFrame, results: pd.DataFrame) -> str:
    """The method, with its backbone if it was run on several."""
    first = part.iloc[0]
    several = results[results.method == first.method].backbone.nunique() > 1
    return f"{first.title} ({shown_backbone(part).iloc[0]})" if several else first.title


TABLE = MethodsTable

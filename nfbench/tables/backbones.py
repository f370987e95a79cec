"""Tables of backbones or level sets: rows are backbones, columns metrics, cells means over categories."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from nfbench.config.backbone import BackboneConfig
from nfbench.config.metrics import MetricName
from nfbench.config.names import Title
from nfbench.config.runs import Runs, unknown
from nfbench.config.tables import ComparedTableConfig, Selection
from nfbench.config.validation import Model
from nfbench.core.errors import NfbenchError
from nfbench.tables._captions import caption_of_means
from nfbench.tables._comparison import (
    PublishedRow,
    common_categories,
    compare_runs,
    metrics_faults,
    of_setting,
    printed_cell,
    quoted_only,
    require_metrics,
    row_faults,
)
from nfbench.tables._datasets import is_whole
from nfbench.tables._model import Column, Row, Source, Table, papers_of
from nfbench.tables._titles import metric_title

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["TABLE", "BackboneRow", "BackbonesTable"]


class BackboneRow(Model):
    """A row of a table of backbones."""

    backbone: BackboneConfig = Field(description="backbone of the grid, with the same keys")
    title: Title | None = Field(None, description="title of the row, by default the backbone's tag")
    published: PublishedRow = None

    @property
    def label(self) -> str:
        """Title and tag."""
        return f"{self.title} ({self.backbone.tag})" if self.title else self.backbone.tag


class BackbonesTable(ComparedTableConfig):
    """A table of backbones or level sets: rows are backbones, columns metrics, cells means over categories."""

    example = {
        "title": "Backbones",
        "metrics": ["image_auroc"],
        "setting": "one-class",
        "rows": [{"backbone": {"name": "resnet18.tv_in1k"}}],
    }

    kind: Literal["backbones"] = "backbones"
    metrics: tuple[MetricName, ...] = Field(min_length=1, description="metrics, as run.json names them")
    rows: tuple[BackboneRow, ...] = Field(min_length=1, description="backbones in the order of the rows")
    selections: tuple[Selection, ...] = Field(
        ("last",), min_length=1, description="selections of the scored checkpoint; several are shown side by side"
    )

    def faults_in_setting(self, key: str, shown: Runs, runs: Runs) -> Iterator[str]:
        """Yield backbones without runs, and published values that do not exist."""
        yield from super().faults_in_setting(key, shown, runs)
        tags = [backbone.tag for backbone in shown.backbones]
        for number, row in enumerate(self.rows):
            of_row = f"{key}.rows.{number}"
            yield from unknown(f"{of_row}.backbone", "run with the backbone", [row.backbone.tag], tags)
            for where in self.published_rows(row.published, shown.datasets):
                yield from row_faults(of_row, self.published, where)
        yield from metrics_faults(key, self.published, self.metrics)

    def make(self, name: str, source: Source) -> Table:
        """Average over the categories that all rows have, and compare with comparable published averages.

        Published averages are over all official categories. If fewer categories or not all of their images were
        measured, they are shown without difference and status.

        Raises:
            NfbenchError: a row has no runs, no run has a metric, a row of the published table does not exist, or the
                results have several settings.
        """
        results = self._of_rows(name, of_setting(name, self.setting, source.results))
        methods = results.drop_duplicates("method").set_index("method")[["title", "method_title"]]
        columns = [
            Column(metric_title(metric), method.Index, method.title, selection, metric, method.method_title)
            for method in methods.itertuples()
            for metric in self.metrics
            for selection in self.selections
        ]
        rows = []
        for dataset, part in results.groupby("dataset", sort=False):
            comparable = is_whole(dataset, part, source.notes)
            for row in self.rows:
                cells = []
                for column in columns:
                    same = (part.backbone == row.backbone.tag) & (part.method == column.method)
                    runs = part[same & (part.metric == column.metric) & (part.selection == column.selection)]
                    where = {"method": column.published_as, **row.published} if row.published else None
                    published = printed_cell(name, self, where, column.metric, part)
                    cells.append(compare_runs(runs, published, self.tolerance, comparable=comparable))
                rows.append(Row((dataset, row.label), tuple(cells)))
            named, metrics = [row.published for row in self.rows], [column.metric for column in columns]
            rows += quoted_only(self, dataset, metrics, named, rows, results)
        caption = caption_of_means(
            self.title,
            self.metrics,
            results,
            source.notes,
            self.selections,
            papers=papers_of(rows),
            tolerance=self.tolerance,
            cells="means over categories, {spread}",
        )
        return Table(
            name,
            caption,
            tuple(replace(column, metric="") for column in columns),  # the heading names the metric
            tuple(rows),
            papers_of(rows),
            heads=("dataset", "backbone"),
            keys=("metric", "method", "selection"),
        )

    def _of_rows(self, name: str, results: pd.DataFrame) -> pd.DataFrame:
        """Results on the backbones of the rows, for the categories that all methods have on all of them."""
        results = results[results.backbone.isin([row.backbone.tag for row in self.rows])]
        for row in self.rows:
            if row.backbone.tag not in set(results.backbone):
                raise NfbenchError(f"table '{name}': no run has the backbone '{row.backbone.tag}' of 'rows'")
        require_metrics(name, self.metrics, results)
        return common_categories(name, [part for _, part in results.groupby(["method", "backbone"])], results)


TABLE = BackbonesTable

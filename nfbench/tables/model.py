"""The content of a table of results: rows, columns, and a caption that says what was measured on what."""

from dataclasses import dataclass, field

import pandas as pd

from nfbench.reference import PublishedValue
from nfbench.results.compare import Comparison
from nfbench.tables.captions import short_metric

__all__ = ["AVERAGE", "Column", "Row", "Table"]

AVERAGE = "average"


@dataclass(frozen=True)
class Column:
    """A measured method on a backbone, with the checkpoint of one selection.

    Attributes:
        method: name of the method or variant.
        backbone: tag of the backbone; of several that share the column, their name and input sizes.
        title: heading.
        published_as: the method as papers print it.
        selection: which checkpoint is scored.
        metric: metric of the column where it is not the table's.
        tags: tags of the backbones whose runs the column shows.
    """

    method: str
    backbone: str
    title: str
    published_as: str
    selection: str
    metric: str = ""
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Row:
    """One category, or the average over the categories above it.

    Attributes:
        dataset: title of the dataset.
        category: name of the category, ``average`` for the average.
        cells: one per measured column.
        published: one per column of ``Table.others``.
        runs: for each cell the results that it is the mean of, rows of the aggregated results.
    """

    dataset: str
    category: str
    cells: tuple[Comparison, ...]
    published: tuple[PublishedValue | None, ...]
    runs: tuple[pd.DataFrame, ...] = field(default=(), compare=False, repr=False)


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
        keys: what names a cell: the dataset, what the rows are, and three properties of a column.
    """

    name: str
    caption: str
    columns: tuple[Column, ...]
    others: tuple[str, ...]
    source: str
    rows: tuple[Row, ...]
    keys: tuple[str, str, str, str, str] = ("dataset", "category", "method", "backbone", "selection")

    def details(self, column: Column) -> str:
        """Second line of a column's heading: its selection, its backbone where there are several, its own metric."""
        several = len({other.backbone for other in self.columns}) > 1
        parts = [column.backbone if several else "", column.selection, short_metric(column.metric)]
        return ", ".join(part for part in parts if part)

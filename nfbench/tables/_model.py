"""What a table consists of: rows and columns, cells that know the runs they follow from, and a caption."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nfbench.config import VariantConfig
from nfbench.core.errors import NfbenchError
from nfbench.plan.specs import DatasetNote
from nfbench.reference import PublishedValue
from nfbench.results.compare import Comparison
from nfbench.tables._titles import short_metric

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["AVERAGE", "Cell", "Column", "Row", "Source", "Table", "Text", "exact", "papers_of", "published_cell"]

AVERAGE = "average"


@dataclass(frozen=True)
class Source:
    """What tables are made from.

    Attributes:
        results: aggregated results, None for tables that are made from code alone.
        notes: of datasets that are not official ones as they are.
        variants: what the names of the variants mean that a table builds.
    """

    results: pd.DataFrame | None
    notes: Mapping[str, DatasetNote] = field(default_factory=dict)
    variants: Mapping[str, VariantConfig] = field(default_factory=dict)


@dataclass(frozen=True)
class Column:
    """A column of measured values, by default; what a cell's runs have in common.

    Attributes:
        title: heading.
        method: name of the method or variant.
        backbone: tag of the backbone; of several that share the column, their name and input sizes.
        selection: which checkpoint is scored.
        metric: metric of the column where it is not the table's.
        published_as: the method as papers print it.
        tags: tags of the backbones whose runs the column shows.
        is_text: its cells are ``Text``.
        group: heading above neighbouring columns of text that belong together.
        align: alignment in LaTeX.
    """

    title: str
    method: str = ""
    backbone: str = ""
    selection: str = ""
    metric: str = ""
    published_as: str = ""
    tags: tuple[str, ...] = ()
    is_text: bool = False
    group: str = ""
    align: str = "r"


@dataclass(frozen=True)
class Text:
    """A cell that is printed as it is.

    Attributes:
        text: what is printed.
        record: what CSV says of it, by column; by default the text under the title of its column.
        style: class in HTML.
        hint: text that HTML shows on demand.
        trace: lines that tell how it came about.
    """

    text: str
    record: Mapping[str, Any] = field(default_factory=dict)
    style: str = ""
    hint: str = ""
    trace: tuple[str, ...] = ()


Cell = Comparison | Text


def published_cell(value: PublishedValue | None, **record: Any) -> Text:
    """A published value as tables print it, with a mark where it is doubtful; ``record`` is what CSV says besides."""
    if value is None:
        return Text("–", {"published": "", "trust": "", **record}, "published")
    mark, style, trust = ("", "published", "trusted") if value.trusted else (" ?", "published doubtful", "doubtful")
    record = {"published": exact(value.value), "trust": trust, **record}
    return Text(f"{value.value:.2f}{mark}", record, style, value.note)


def papers_of(rows: Iterable[Row]) -> str:
    """The papers of the published values in rows."""
    found = {
        cell.published.source for row in rows for cell in row.cells if isinstance(cell, Comparison) and cell.published
    }
    return " and ".join(sorted(found))


def exact(value: float) -> str:
    """A number with all digits, empty for NaN."""
    return "" if math.isnan(value) else f"{value:.10g}"


@dataclass(frozen=True)
class Row:
    """Labels, such as dataset and category, and one cell per column."""

    labels: tuple[str, ...]
    cells: tuple[Cell, ...]

    @property
    def label(self) -> str:
        """The last label, which tells rows of one group apart."""
        return self.labels[-1]


@dataclass(frozen=True)
class Table:
    """A table, ready to be written.

    Attributes:
        name: file name without ending, also the LaTeX label.
        caption: title, and what a reader must know before comparing.
        columns: one or more.
        rows: the last label of an average over the rows above is ``AVERAGE``.
        source: the paper of the published values, empty without.
        heads: headings of the labels.
        keys: what CSV calls the title of a measured column, its backbone and its selection.
        grouped: the first label is a heading above its rows in LaTeX.
        notes: texts below the table by their marks.
    """

    name: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    source: str = ""
    heads: tuple[str, ...] = ("dataset", "category")
    keys: tuple[str, str, str] = ("method", "backbone", "selection")
    grouped: bool = True
    notes: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row.cells) != len(self.columns):
                found = f"{len(row.cells)} cells for {len(self.columns)} columns"
                raise NfbenchError(f"table '{self.name}': row '{row.label}' has {found}")

    @property
    def measured(self) -> tuple[Column, ...]:
        """Columns of measured values."""
        return tuple(column for column in self.columns if not column.is_text)

    def details(self, column: Column) -> str:
        """Second line of a column's heading: its selection, its backbone where there are several, its own metric."""
        several = len({other.backbone for other in self.measured}) > 1
        parts = [column.backbone if several else "", column.selection, short_metric(column.metric)]
        return ", ".join(part for part in parts if part)

    def comparisons(self) -> Iterator[tuple[Row, Column, Comparison]]:
        """All measured cells with their rows and columns."""
        for row in self.rows:
            for column, cell in zip(self.columns, row.cells, strict=True):
                if isinstance(cell, Comparison):
                    yield row, column, cell

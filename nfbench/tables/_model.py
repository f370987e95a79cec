"""Model of a table: rows, columns, cells with references to their runs, and a caption."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from nfbench.config import VariantConfig
from nfbench.core.errors import NfbenchError
from nfbench.plan.experiment_specs import DatasetNote
from nfbench.reference import PrintedValue, PublishedValue
from nfbench.results.compare import Comparison
from nfbench.tables._titles import short_metric

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "AVERAGE",
    "PUBLISHED_ONLY",
    "Cell",
    "Column",
    "Row",
    "Source",
    "Table",
    "Text",
    "average_label",
    "exact",
    "papers_of",
    "published_cell",
]

AVERAGE = "average"
PUBLISHED_ONLY: Final = "published only"


@dataclass(frozen=True)
class Source:
    """Inputs of tables.

    Attributes:
        results: aggregated results; None for tables built from code only.
        notes: of datasets that are not official ones as they are.
        variants: definitions of the variants that a table builds, by name.
    """

    results: pd.DataFrame | None
    notes: Mapping[str, DatasetNote] = field(default_factory=dict)
    variants: Mapping[str, VariantConfig] = field(default_factory=dict)


@dataclass(frozen=True)
class Column:
    """A column, by default of measured values; its attributes identify the runs of its cells.

    Attributes:
        title: heading.
        method: name of the method or variant.
        backbone: tag of the backbone; if several share the column, their name and input sizes.
        selection: selection of the scored checkpoint.
        metric: metric of the column if it differs from the table's.
        published_as: the method as papers print it.
        tags: tags of the backbones whose runs the column shows.
        is_text: whether its cells are ``Text``.
        group: common heading above neighbouring columns of text.
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
    """A cell of text, printed unchanged.

    Attributes:
        text: printed text.
        record: values in CSV by column; by default the text under the title of its column.
        style: class in HTML.
        hint: text that HTML shows on hover.
        trace: lines that explain its origin.
        published: the published value that it shows, if any.
        runs: the results that it was counted from, if any.
    """

    text: str
    record: Mapping[str, Any] = field(default_factory=dict)
    style: str = ""
    hint: str = ""
    trace: tuple[str, ...] = ()
    published: PublishedValue | PrintedValue | None = None
    runs: pd.DataFrame | None = field(default=None, compare=False, repr=False)


Cell = Comparison | Text


def published_cell(value: PublishedValue | None, **record: Any) -> Text:
    """Format a published value, with a mark if it is doubtful; ``record`` adds values to CSV."""
    if value is None:
        return Text("–", {"published": "", "published_std": "", "trust": "", **record}, "published")
    trust = "lost" if value.is_lost else "trusted" if value.trusted else "doubtful"
    style, mark = ("published", "") if value.trusted else ("published doubtful", " ?")
    spread = "" if math.isnan(value.std) else f" ± {value.std:.2f}"
    text = "lost" if value.is_lost else f"{value.value:.2f}{spread}{mark}"
    record = {"published": exact(value.value), "published_std": exact(value.std), "trust": trust, **record}
    return Text(text, record, style, value.note, published=value)


def average_label(kind: str = "") -> str:
    """Label of the row of means over all categories of a dataset, or over one kind, such as ``texture``."""
    return f"{AVERAGE} {kind}".strip()


def papers_of(rows: Iterable[Row]) -> str:
    """The papers of the published values in rows."""
    found = {
        cell.published.source for row in rows for cell in row.cells if isinstance(cell, Comparison) and cell.published
    }
    return " and ".join(sorted(found))


def exact(value: float) -> str:
    """Format a number with all digits; empty for NaN."""
    return "" if math.isnan(value) else f"{value:.10g}"


@dataclass(frozen=True)
class Row:
    """Labels, such as dataset and category, and one cell per column.

    Attributes:
        labels, cells: labels and cells of the row.
        kind: kind of the categories behind its means, in tables with averages by kind.
        categories: categories of that kind.
    """

    labels: tuple[str, ...]
    cells: tuple[Cell, ...]
    kind: str = ""
    categories: tuple[str, ...] = ()

    @property
    def is_average(self) -> bool:
        """Whether its cells are averages over rows above."""
        return self.label == average_label(self.kind)

    @property
    def label(self) -> str:
        """The last label, which distinguishes rows of one group."""
        return self.labels[-1]


@dataclass(frozen=True)
class Table:
    """A table, ready to be written.

    Attributes:
        name: file name without extension, also the LaTeX label.
        caption: title, and notes that a reader needs before comparing.
        columns: columns, at least one.
        rows: rows; the last label of an average over rows above is ``average_label`` of their kind.
        source: paper of the published values; empty without.
        heads: headings of the labels.
        keys: names in CSV for the title of a measured column, its backbone and its selection.
        grouped: whether the first label is a heading above its rows in LaTeX.
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
        if self.measured and (twice := set(self.heads) & set(self.keys)):
            raise NfbenchError(f"table '{self.name}': labels and columns are both called '{min(twice)}' in CSV")
        for row in self.rows:
            if len(row.cells) != len(self.columns):
                found = f"{len(row.cells)} cells for {len(self.columns)} columns"
                raise NfbenchError(f"table '{self.name}': row '{row.label}' has {found}")

    @property
    def measured(self) -> tuple[Column, ...]:
        """Columns of measured values."""
        return tuple(column for column in self.columns if not column.is_text)

    @property
    def published(self) -> Iterator[tuple[Column, Cell, PublishedValue | PrintedValue]]:
        """Yield all published values with the cells that show them."""
        for row in self.rows:
            for column, cell in zip(self.columns, row.cells, strict=True):
                if cell.published:
                    yield column, cell, cell.published

    @property
    def footnotes(self) -> Mapping[str, str]:
        """Texts below the table by their marks: its notes, and why published values are doubtful or lost."""
        doubts: dict[str, dict[str, None]] = {"?": {}, "lost": {}}
        for *_, value in self.published:
            for cell in value.cells:
                if cell.doubt:
                    doubts["lost" if cell.is_lost else "?"][f"{cell.printed['method']}: {cell.doubt}"] = None
        return {**self.notes, **{mark: "; ".join(reasons) for mark, reasons in doubts.items() if reasons}}

    def details(self, column: Column) -> str:
        """Second line of a column heading: selection, backbone if there are several, and own metric."""
        several = len({other.backbone for other in self.measured}) > 1
        parts = [column.backbone if several else "", column.selection, short_metric(column.metric)]
        return ", ".join(part for part in parts if part)

    def comparisons(self) -> Iterator[tuple[Row, Column, Comparison]]:
        """Yield all measured cells with their rows and columns."""
        for row in self.rows:
            for column, cell in zip(self.columns, row.cells, strict=True):
                if isinstance(cell, Comparison):
                    yield row, column, cell

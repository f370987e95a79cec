"""Published tables as package data: one CSV each; ``index.csv`` has their sources, ``notes.md`` their problems."""

import csv
import hashlib
import io
import math
from collections.abc import Container, Iterable, Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

from nfbench.core.errors import NfbenchError
from nfbench.core.registry import nearest

__all__ = [
    "PrintedCell",
    "PrintedValue",
    "PublishedTable",
    "PublishedValue",
    "find_printed",
    "printed_cells",
    "printed_rows",
    "published_hashes",
    "published_names",
    "published_table",
    "quoted_rows",
]

_PERCENT = {"percent": 1.0, "fraction": 100.0}
_WHOLE = ("average_total", "all")
"""Category names that mean all categories of a dataset."""
_MEAN_OF_ROWS = "mean of its rows"
_IN_LABEL = ("method", "backbone", "dataset", "category")


class PrintedCell(NamedTuple):
    """A cell of a published table: the name of its file, and the number of its row in it, from 0."""

    table: str
    row: int

    @property
    def printed(self) -> Mapping[str, str]:
        """All columns of the row."""
        return printed_rows(self.table)[self.row]

    @property
    def is_lost(self) -> bool:
        """Whether the paper prints a value that is unknown here, because it was lost in the extracted text."""
        return self.printed.get("status") == "missing_in_extraction"

    @property
    def is_known(self) -> bool:
        """Whether the paper prints a value and it is known."""
        return bool(self.printed["value"])

    @property
    def doubt(self) -> str:
        """Reason why the value is doubtful or lost, such as an average that does not match its rows; else empty."""
        row = self.printed
        reason, mean, rows = row["trust_note"].partition(_MEAN_OF_ROWS)
        if row["trust"] != "trusted":
            return reason.rstrip("; ") or "doubtful"
        return f"average; {mean}{rows}" if row["arithmetic"] == "mismatch" else ""


class PublishedValue(NamedTuple):
    """One published cell, in percent."""

    value: float
    """NaN if the value was lost in the extracted text."""
    trusted: bool
    note: str
    source: str = ""
    """Paper and table, if a table of ours has values from several."""
    std: float = math.nan
    """The number after ± in the paper."""
    cells: tuple[PrintedCell, ...] = ()
    """The printed cells behind the value; several for our own mean."""

    @property
    def is_lost(self) -> bool:
        """Whether the cell is printed but its value unknown."""
        return math.isnan(self.value)


class PrintedValue(NamedTuple):
    """One published number as printed, in the unit of its table."""

    text: str
    unit: str
    trusted: bool
    note: str
    source: str
    """Paper and table."""
    setting: str
    """One-class, unified or supervised-N; empty if the table does not state it."""
    cells: tuple[PrintedCell, ...]
    """The printed cell."""

    def equals(self, value: float) -> bool:
        """Whether ``value``, in the same unit, rounds to the printed number."""
        decimals = len(self.text.partition(".")[2])
        return f"{value:.{decimals}f}" == self.text

    def in_percent(self) -> PublishedValue:
        """Convert to a value in percent.

        Raises:
            NfbenchError: the number is neither a percentage nor a fraction.
        """
        if self.unit not in _PERCENT:
            raise NfbenchError(f"{self.source}: '{self.text} {self.unit}' is not a percentage or fraction")
        return _in_percent(self.cells[0])


class PublishedTable(NamedTuple):
    """A published table from one file.

    Attributes:
        paper: short name of the paper.
        table: number and caption in the paper.
        values: values by (method as the paper prints it, category, metric); the category is the corrected one if the
            printed row label is known to be wrong. A method with several backbones is one method per backbone, such as
            ``SANFlow (WRN-50)``; a method in another setting than the requested ones has its setting in the name, such
            as ``BGAD (supervised-10)``.
        kinds: kinds of categories, such as ``texture`` and ``object``.
        ambiguous: values published for several datasets when no dataset was chosen.
    """

    paper: str
    table: str
    values: dict[tuple[str, str, str], PublishedValue]
    kinds: dict[str, str]
    ambiguous: frozenset[tuple[str, str, str]] = frozenset()

    def methods(self, metric: str) -> list[str]:
        """Return the methods with values of ``metric``, in the order of the paper."""
        return list(dict.fromkeys(method for method, _, found in self.values if found == metric))

    def value(self, method: str, category: str, metric: str) -> PublishedValue | None:
        """Return one published value, or None.

        Raises:
            NfbenchError: the value is published for several datasets.
        """
        if (method, category, metric) in self.ambiguous:
            raise NfbenchError(
                f"{self.paper}, {self.table}: '{category}' is a row in several datasets; choose one "
                "with 'published_datasets' of the table"
            )
        return self.values.get((method, category, metric))


def published_names() -> list[str]:
    """Names of all published tables with percentages or fractions by category."""
    return sorted(path.name.removesuffix(".csv") for path in files(__name__).iterdir() if path.name.endswith(".csv"))


def published_hashes(tables: Iterable[Any]) -> dict[str, str]:
    """SHA-256 by name of the published tables that the ``tables`` of an experiment are compared with.

    Raises:
        NfbenchError: a published table does not exist; names the nearest one.
    """
    names = sorted({table.published for table in tables if getattr(table, "published", None)})
    for name in names:
        if name not in published_names():
            raise NfbenchError(f"no published table '{name}' in nfbench/reference{nearest(name, published_names())}")
    return {name: hashlib.sha256((files(__name__) / f"{name}.csv").read_bytes()).hexdigest() for name in names}


@cache
def published_table(
    name: str, settings: frozenset[str] | None = None, dataset: str | None = None, by: str = "method"
) -> PublishedTable:
    """Read a published table.

    Args:
        name: name of the table.
        settings: settings of the runs; methods in other settings have the setting in their name. None ignores settings.
        dataset: keep only values of this dataset, by its name in the table.
        by: column with the names of the methods, for tables of variants of one method.

    Raises:
        NfbenchError: the table or column does not exist (the message names the nearest one), or the table has no values
            for these settings or this dataset.
    """
    cells = [cell for cell in printed_cells(name) if cell.printed.get("unit") in _PERCENT]
    cells = [cell for cell in cells if cell.is_known or cell.is_lost]
    if not cells:
        raise NfbenchError(f"published table '{name}' has no percentages or fractions")
    if by not in (columns := cells[0].printed):
        raise NfbenchError(f"published table '{name}' has no column '{by}'{nearest(by, columns)}")
    found = sorted({cell.printed.get("setting") or "" for cell in cells})
    if settings is not None and not {"", *settings} & set(found):
        wanted = ", ".join(sorted(settings))
        raise NfbenchError(f"published table '{name}' has values for the settings {', '.join(found)}, not for {wanted}")
    if dataset is not None:
        datasets = {cell.printed["dataset"] for cell in cells if cell.printed.get("dataset")}
        cells = [cell for cell in cells if cell.printed.get("dataset") == dataset]
        if not cells:
            raise NfbenchError(f"published table '{name}' has no dataset '{dataset}'{nearest(dataset, datasets)}")
    values: dict[tuple[str, str, str], PublishedValue] = {}
    of: dict[tuple[str, str, str], set[str | None]] = {}
    names = _names(cells, by, settings)
    for cell in cells:
        row = cell.printed
        key = names[cell], row.get("category_corrected") or row["category"], row["metric"]
        values[key] = _in_percent(cell)
        of.setdefault(key, set()).add(row.get("dataset"))
    ambiguous = frozenset(key for key, named in of.items() if len(named) > 1)
    kinds = {cell.printed["category"]: cell.printed["category_kind"] for cell in cells}
    paper = cells[0].printed["paper"], cells[0].printed["table"]
    return PublishedTable(*paper, values, {c: kind for c, kind in kinds.items() if kind != "average"}, ambiguous)


def quoted_rows(
    name: str, settings: frozenset[str], dataset: str | None, by: Sequence[str], shown: Container[PrintedCell]
) -> dict[str, dict[str, PublishedValue]]:
    """Return published means over a dataset's categories that are not in ``shown``, by label and metric.

    Args:
        name: name of the table.
        settings: settings of the runs; other settings are part of the label.
        dataset: name of the dataset in the table; None for a table of one dataset.
        by: columns that distinguish rows of one method; they are part of the label.
        shown: cells to leave out.
    """
    cells = [cell for cell in printed_cells(name) if cell.printed["category"] in _WHOLE]
    cells = [cell for cell in cells if dataset in (None, cell.printed["dataset"]) and (cell.is_known or cell.is_lost)]
    names, found = _names(cells, "method", settings), dict[str, dict[str, PublishedValue]]()
    for cell in cells:
        if cell not in shown:
            row = cell.printed
            named = [f"{column} {row[column]}" for column in by if row[column] and column not in _IN_LABEL]
            found.setdefault(", ".join([names[cell], *named]), {})[row["metric"]] = _in_percent(cell)
    return found


def printed_cells(name: str) -> list[PrintedCell]:
    """Return all cells of a published table."""
    return [PrintedCell(name, number) for number in range(len(printed_rows(name)))]


def _names(cells: Iterable[PrintedCell], by: str, settings: frozenset[str] | None) -> dict[PrintedCell, str]:
    """Name the method of each cell uniquely, with backbone or setting if it has several."""
    backbones: dict[str, set[str]] = {}
    for cell in cells:
        backbones.setdefault(cell.printed["method"], set()).add(cell.printed.get("backbone") or "")
    names = {}
    for cell in cells:
        row = cell.printed
        backbone, setting = row.get("backbone"), row.get("setting")
        several = by == "method" and len(backbones[row["method"]]) > 1 and backbone
        other = setting if settings is not None and setting and setting not in settings else ""
        details = ", ".join(filter(None, [backbone if several else "", other]))
        names[cell] = f"{row[by]} ({details})" if details else row[by]
    return names


def _in_percent(cell: PrintedCell) -> PublishedValue:
    row = cell.printed
    value, std = (_PERCENT[row["unit"]] * float(row[column] or math.nan) for column in ("value", "std"))
    return PublishedValue(value, not cell.doubt, row["trust_note"], _source(row), std, (cell,))


def _source(row: Mapping[str, str]) -> str:
    return f"{row['paper']}, {row['table']}"


def find_printed(name: str, where: Mapping[str, str], metric: str | None = None) -> PrintedValue | None:
    """Find the number of a published table whose columns have the given values; None if its cell is blank.

    For tables whose rows are not categories, such as parameters by method and backbone.

    Args:
        name: name of the table.
        where: values by column.
        metric: take the row with this metric; return None if the rows only have other metrics.

    Raises:
        NfbenchError: the table or column does not exist, or not exactly one row matches; names the values.
    """
    rows = printed_rows(name)
    for column in where:
        if column not in rows[0]:
            raise NfbenchError(f"published table '{name}' has no column '{column}'{nearest(column, rows[0])}")
    found = [
        cell for cell in printed_cells(name) if all(cell.printed[column] == value for column, value in where.items())
    ]
    if metric is not None and found:
        found = [cell for cell in found if cell.printed["metric"] == metric]
        if not found:
            return None
    if len(found) != 1:
        wanted = ", ".join(f"{column} '{value}'" for column, value in where.items())
        wanted += f" and metric '{metric}'" if metric else ""
        raise NfbenchError(f"published table '{name}' has {len(found)} rows with {wanted}, expected one")
    (cell,) = found
    if not cell.is_known:
        return None
    row, setting = cell.printed, cell.printed.get("setting") or ""
    return PrintedValue(row["value"], row["unit"], not cell.doubt, row["trust_note"], _source(row), setting, (cell,))


@cache
def printed_rows(name: str) -> tuple[dict[str, str], ...]:
    """Return all rows of a published table, as in its file.

    Raises:
        NfbenchError: the table does not exist; names the nearest one.
    """
    if name not in published_names():
        raise NfbenchError(f"unknown published table '{name}'{nearest(name, published_names())}")
    text = files(__name__).joinpath(f"{name}.csv").read_bytes().decode("utf-8")
    return tuple(csv.DictReader(io.StringIO(text, newline="")))

"""Published tables as package data: one CSV each; ``index.csv`` says where it comes from, ``notes.md`` what is odd."""

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
"""Categories that stand for all of a dataset."""
_MEAN_OF_ROWS = "mean of its rows"
_IN_LABEL = ("method", "backbone", "dataset", "category")


class PrintedCell(NamedTuple):
    """A cell of a published table: the name of its file, and the number of its row there, from 0."""

    table: str
    row: int

    @property
    def printed(self) -> Mapping[str, str]:
        """All columns of the row."""
        return printed_rows(self.table)[self.row]

    @property
    def is_lost(self) -> bool:
        """Whether a value is printed, but not known: the text that the table was read from lacks it."""
        return self.printed.get("status") == "missing_in_extraction"

    @property
    def is_known(self) -> bool:
        """Whether a value is printed and known."""
        return bool(self.printed["value"])

    @property
    def doubt(self) -> str:
        """Why the value is doubtful as printed, or lost; empty for most. Averages must follow from their rows."""
        row = self.printed
        reason, mean, rows = row["trust_note"].partition(_MEAN_OF_ROWS)
        if row["trust"] != "trusted":
            return reason.rstrip("; ") or "doubtful"
        return f"average; {mean}{rows}" if row["arithmetic"] == "mismatch" else ""


class PublishedValue(NamedTuple):
    """One published cell, in percent."""

    value: float
    """NaN where the cell is printed, and lost in the text that the table was read from."""
    trusted: bool
    note: str
    source: str = ""
    """Paper and table, where a table of ours has values of several."""
    std: float = math.nan
    """What the paper prints after ±."""
    cells: tuple[PrintedCell, ...] = ()
    """The printed cells that it shows; several for a mean of ours."""

    @property
    def is_lost(self) -> bool:
        """Whether the cell is printed, but its value not known."""
        return math.isnan(self.value)


class PrintedValue(NamedTuple):
    """One published number as it is printed, in the unit of its table."""

    text: str
    unit: str
    trusted: bool
    note: str
    source: str
    """Paper and table."""
    setting: str
    """One-class, unified or supervised-N; empty where the table does not say."""
    cells: tuple[PrintedCell, ...]
    """The one cell that it is."""

    def equals(self, value: float) -> bool:
        """Whether ``value``, in the same unit, is the printed number at its precision."""
        decimals = len(self.text.partition(".")[2])
        return f"{value:.{decimals}f}" == self.text

    def in_percent(self) -> PublishedValue:
        """As a cell of tables in percent.

        Raises:
            NfbenchError: the number is neither a percentage nor a fraction.
        """
        if self.unit not in _PERCENT:
            raise NfbenchError(f"{self.source}: '{self.text} {self.unit}' is no percentage or fraction")
        return _in_percent(self.cells[0])


class PublishedTable(NamedTuple):
    """A published table of one file.

    Attributes:
        paper: short name of the paper.
        table: number and caption in the paper.
        values: by (method as the paper prints it, category, metric); the category is the corrected one where the
            printed row label is known to be wrong. Where a method has values on several backbones, each is a method of
            its own, such as ``SANFlow (WRN-50)``; so is a method of another setting than those asked for, such as
            ``BGAD (supervised-10)``.
        kinds: of categories, such as ``texture`` and ``object``.
        ambiguous: values published for several datasets when no dataset was chosen.
    """

    paper: str
    table: str
    values: dict[tuple[str, str, str], PublishedValue]
    kinds: dict[str, str]
    ambiguous: frozenset[tuple[str, str, str]] = frozenset()

    def methods(self, metric: str) -> list[str]:
        """Methods with values of ``metric``, in the order of the paper."""
        return list(dict.fromkeys(method for method, _, found in self.values if found == metric))

    def value(self, method: str, category: str, metric: str) -> PublishedValue | None:
        """One published value, or None.

        Raises:
            NfbenchError: the value is published for several datasets.
        """
        if (method, category, metric) in self.ambiguous:
            raise NfbenchError(
                f"{self.paper}, {self.table}: '{category}' is a row of several datasets; choose one "
                "with 'published_datasets' of the table"
            )
        return self.values.get((method, category, metric))


def published_names() -> list[str]:
    """Names of all published tables with percentages or fractions by category."""
    return sorted(path.name.removesuffix(".csv") for path in files(__name__).iterdir() if path.name.endswith(".csv"))


def published_hashes(tables: Iterable[Any]) -> dict[str, str]:
    """SHA-256 of the published tables that ``tables`` of an experiment are compared with, by name.

    Raises:
        NfbenchError: there is no such published table; names the nearest one.
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
        settings: those of the runs; a method of another one is told apart by its name. None where that is no matter.
        dataset: keep the values of this dataset only, by the name that the table gives it.
        by: column that names the methods, for tables of variants of one method.

    Raises:
        NfbenchError: no such table or column; names the nearest one. Or it has nothing of these settings or this
            dataset.
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
        raise NfbenchError(f"published table '{name}' has values of the settings {', '.join(found)}, not of {wanted}")
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
    """Published means over a dataset's categories that are not among ``shown``, by label and metric.

    Args:
        name: name of the table.
        settings: those of the runs; other ones are part of the label.
        dataset: by the name that the table gives it; None for a table of one dataset.
        by: columns that tell rows of one method apart; they are part of the label.
        shown: cells that are left out.
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
    """All cells of a published table."""
    return [PrintedCell(name, number) for number in range(len(printed_rows(name)))]


def _names(cells: Iterable[PrintedCell], by: str, settings: frozenset[str] | None) -> dict[PrintedCell, str]:
    """What the method of each cell is called, so that no name is one of several backbones or settings."""
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
    """The one number of a published table whose columns have the given values, None where its cell is blank.

    For tables whose rows are not categories, such as parameters by method and backbone.

    Args:
        name: name of the table.
        where: values by column.
        metric: among these rows, take the one of this metric; None is returned where they are all of others.

    Raises:
        NfbenchError: no such table or column, or not exactly one row; names what was looked for.
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
        raise NfbenchError(f"published table '{name}' has {len(found)} rows with {wanted}; it takes one")
    (cell,) = found
    if not cell.is_known:
        return None
    row, setting = cell.printed, cell.printed.get("setting") or ""
    return PrintedValue(row["value"], row["unit"], not cell.doubt, row["trust_note"], _source(row), setting, (cell,))


@cache
def printed_rows(name: str) -> tuple[dict[str, str], ...]:
    """All rows of a published table, as they are in its file.

    Raises:
        NfbenchError: no such table; names the nearest one.
    """
    if name not in published_names():
        raise NfbenchError(f"unknown published table '{name}'{nearest(name, published_names())}")
    text = files(__name__).joinpath(f"{name}.csv").read_bytes().decode("utf-8")
    return tuple(csv.DictReader(io.StringIO(text, newline="")))

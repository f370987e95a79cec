"""Published tables as package data: one CSV each; ``index.csv`` says where it comes from, ``notes.md`` what is odd."""

import csv
import hashlib
import io
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

from nfbench.core.errors import NfbenchError
from nfbench.core.registry import nearest

__all__ = [
    "PrintedValue",
    "PublishedTable",
    "PublishedValue",
    "find_printed",
    "printed_rows",
    "published_hashes",
    "published_names",
    "published_table",
]

_PERCENT = {"percent": 1.0, "fraction": 100.0}


class PublishedValue(NamedTuple):
    """One published cell, in percent."""

    value: float
    trusted: bool
    note: str
    source: str = ""
    """Paper and table, where a table of ours has values of several."""


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
        return PublishedValue(float(self.text) * _PERCENT[self.unit], self.trusted, self.note, self.source)


class PublishedTable(NamedTuple):
    """A published table of one file.

    Attributes:
        paper: short name of the paper.
        table: number and caption in the paper.
        values: by (method as the paper prints it, category, metric); the category is the corrected one where the
            printed row label is known to be wrong. Where a method has values on several backbones, each is a method of
            its own, such as ``SANFlow (WRN-50)``.
        ambiguous: what is published of several datasets, where it was not said of which.
    """

    paper: str
    table: str
    values: dict[tuple[str, str, str], PublishedValue]
    ambiguous: frozenset[tuple[str, str, str]] = frozenset()

    def methods(self, metric: str) -> list[str]:
        """Methods with values of ``metric``, in the order of the paper."""
        return list(dict.fromkeys(method for method, _, found in self.values if found == metric))

    def value(self, method: str, category: str, metric: str) -> PublishedValue | None:
        """One cell, None where nothing is published.

        Raises:
            NfbenchError: it is published of several datasets.
        """
        if (method, category, metric) in self.ambiguous:
            raise NfbenchError(
                f"{self.paper}, {self.table}: '{category}' is a row of several datasets; say of which by "
                "'published_datasets' of the table"
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
    """Reads a published table.

    Args:
        name: name of the table.
        settings: keep the values of these settings only, and those whose setting the table does not say.
        dataset: keep the values of this dataset only, by the name that the table gives it.
        by: column that names the methods, for tables of variants of one method.

    Raises:
        NfbenchError: no such table or column; names the nearest one. Or it has nothing of these settings or this
            dataset.
    """
    rows = [row for row in printed_rows(name) if row.get("value") and row.get("unit") in _PERCENT]
    if not rows:
        raise NfbenchError(f"published table '{name}' has no percentages or fractions")
    if by not in rows[0]:
        raise NfbenchError(f"published table '{name}' has no column '{by}'{nearest(by, rows[0])}")
    found = sorted({row.get("setting") or "" for row in rows})
    if settings is not None:
        rows = [row for row in rows if not row.get("setting") or row["setting"] in settings]
    if not rows:
        wanted = ", ".join(sorted(settings or ()))
        raise NfbenchError(f"published table '{name}' has values of the settings {', '.join(found)}, not of {wanted}")
    datasets = {row["dataset"] for row in rows if row.get("dataset")}
    if dataset is not None:
        rows = [row for row in rows if row.get("dataset") == dataset]
        if not rows:
            raise NfbenchError(f"published table '{name}' has no dataset '{dataset}'{nearest(dataset, datasets)}")
    backbones: dict[str, set[str]] = {}
    for row in rows:
        backbones.setdefault(row["method"], set()).add(row.get("backbone") or "")
    values: dict[tuple[str, str, str], PublishedValue] = {}
    of: dict[tuple[str, str, str], set[str | None]] = {}
    for row in rows:
        category = row.get("category_corrected") or row["category"]
        scaled = float(row["value"]) * _PERCENT[row["unit"]]
        several = by == "method" and len(backbones[row["method"]]) > 1 and row["backbone"]
        method = f"{row['method']} ({row['backbone']})" if several else row[by]
        key = method, category, row["metric"]
        values[key] = PublishedValue(scaled, row["trust"] == "trusted", row["trust_note"])
        of.setdefault(key, set()).add(row.get("dataset"))
    ambiguous = frozenset(key for key, named in of.items() if len(named) > 1)
    return PublishedTable(rows[0]["paper"], rows[0]["table"], values, ambiguous)


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
    found = [row for row in rows if all(row[column] == value for column, value in where.items())]
    if metric is not None and found:
        found = [row for row in found if row["metric"] == metric]
        if not found:
            return None
    if len(found) != 1:
        wanted = ", ".join(f"{column} '{value}'" for column, value in where.items())
        wanted += f" and metric '{metric}'" if metric else ""
        raise NfbenchError(f"published table '{name}' has {len(found)} rows with {wanted}; it takes one")
    (row,) = found
    if not row["value"]:
        return None
    source = f"{row['paper']}, {row['table']}"
    setting = row.get("setting") or ""
    return PrintedValue(row["value"], row["unit"], row["trust"] == "trusted", row["trust_note"], source, setting)


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

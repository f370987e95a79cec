"""Published tables as package data: one CSV each; ``index.csv`` says where it comes from, ``notes.md`` what is odd."""

import csv
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from nfbench.errors import NfbenchError
from nfbench.registry import nearest

__all__ = ["PublishedTable", "PublishedValue", "published_names", "published_table"]

_PERCENT = {"percent": 1.0, "fraction": 100.0}


class PublishedValue(NamedTuple):
    """One published cell, in percent."""

    value: float
    trusted: bool
    note: str


class PublishedTable(NamedTuple):
    """A published table of one file.

    Attributes:
        paper: short name of the paper.
        table: number and caption in the paper.
        values: by (method as the paper prints it, category, metric); the category is the corrected one where the
            printed row label is known to be wrong.
    """

    paper: str
    table: str
    values: dict[tuple[str, str, str], PublishedValue]

    def methods(self, metric: str) -> list[str]:
        """Methods with values of ``metric``, in the order of the paper."""
        return list(dict.fromkeys(method for method, _, found in self.values if found == metric))

    def value(self, method: str, category: str, metric: str) -> PublishedValue | None:
        """One cell, None where nothing is published."""
        return self.values.get((method, category, metric))


def published_names() -> list[str]:
    """Names of all published tables with percentages or fractions by category."""
    return sorted(path.name.removesuffix(".csv") for path in files(__name__).iterdir() if path.name.endswith(".csv"))


@cache
def published_table(name: str) -> PublishedTable:
    """Reads a published table.

    Raises:
        NfbenchError: no such table; names the nearest one.
    """
    if name not in published_names():
        raise NfbenchError(f"unknown published table '{name}'{nearest(name, published_names())}")
    with files(__name__).joinpath(f"{name}.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row.get("value") and row.get("unit") in _PERCENT]
    values = {}
    for row in rows:
        category = row.get("category_corrected") or row["category"]
        scaled = float(row["value"]) * _PERCENT[row["unit"]]
        values[row["method"], category, row["metric"]] = PublishedValue(
            scaled, row["trust"] == "trusted", row["trust_note"]
        )
    if not rows:
        raise NfbenchError(f"published table '{name}' has no percentages or fractions")
    return PublishedTable(rows[0]["paper"], rows[0]["table"], values)

"""The Markdown page of published cells that are doubtful or do not add up, computed from the tables."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, ROUND_HALF_UP, Decimal
from importlib.resources import files
from itertools import groupby
from typing import Literal

from nfbench.reference import printed_rows, published_names

__all__ = ["Average", "averages", "errata_page"]

Verdict = Literal["ok", "within cell rounding", "mismatch"]
Printed = dict[str, str]

_KINDS = {"average_texture": "texture", "average_object": "object"}
_COLUMN = ("method", "backbone", "metric", "variant")
_INTRODUCTION = """\
# Errata of published tables

This page is written by `nfbench errata > docs/errata.md` from `nfbench/reference`. Numbers are as printed.

| mark | meaning |
| --- | --- |
| **?** | The cell is doubtful as printed. All tables and reports of nfbench use this mark. |
| **≠** | The average does not follow from the rows above it. |
| **≈** | The average follows only if it was computed before the rows were rounded. |
| **→** | The row label is wrong; the correct category is after the arrow. nfbench compares with it. |

These errata do not mean that a method is worse or better than its paper claims. Most of them are misprints. Some may
come from the extraction of the tables; the evidence at the end distinguishes them if possible.
"""


@dataclass(frozen=True)
class Average:
    """A printed average and the mean of its printed rows.

    Attributes:
        row: row of the published table.
        mean: exact mean of the printed rows.
        verdict: ``ok`` if the printed value is the mean at its precision, rounded half up or half even; ``within cell
            rounding`` if the rounding of the rows may explain the difference; else ``mismatch``.
    """

    row: Printed
    mean: Decimal
    verdict: Verdict


def averages(name: str) -> list[Average]:
    """Averages of a published table that can be checked because all their rows are printed."""
    rows = [row for row in printed_rows(name) if row.get("category_kind")]
    single = [row for row in rows if row["category_kind"] != "average"]
    found = []
    for average in (row for row in rows if row["category"].startswith("average_") and row["value"]):
        kind = _KINDS.get(average["category"])
        over = [r for r in single if r["dataset"] == average["dataset"] and kind in (None, r["category_kind"])]
        names = {_category(row) for row in over}
        mine = [row for row in over if _column(row) == _column(average) and row["value"]]
        if len(names) > 1 and {_category(row) for row in mine} == names:
            found.append(_checked(average, [Decimal(row["value"]) for row in mine]))
    return found


def errata_page() -> str:
    """Write the page: averages that do not add up, doubtful cells with reasons, tables with marks, and evidence."""
    parts = [_INTRODUCTION, *_averages_section(), *_doubts_section(), *_tables_section()]
    notes = files("nfbench.reference").joinpath("notes.md").read_text(encoding="utf-8")
    demoted = "\n".join(f"#{line}" if line.startswith("#") else line for line in notes.splitlines())
    return "\n".join([*parts, demoted.replace("## Notes on the reference tables", "## Evidence", 1), ""])


def _averages_section() -> Iterator[str]:
    yield "## Averages that do not follow from their rows\n"
    yield "| table | method | metric | average of | printed | from the rows | verdict |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    checked = 0
    for name in published_names():
        for average in averages(name):
            checked += 1
            row = average.row
            if average.verdict != "ok":
                kind = row["category"].removeprefix("average_")
                yield (
                    f"| {_source(row)} | {_method(row)} | {row['metric']} | {kind} | {row['value']} | "
                    f"{average.mean:.4f} | {average.verdict} |"
                )
    yield f"\n{checked} averages were checked; all others are the mean of their rows at the printed precision.\n"


def _doubts_section() -> Iterator[str]:
    yield "## Doubtful cells and wrong labels\n"
    yield "| table | method | cells | why |"
    yield "| --- | --- | --- | --- |"
    for name in published_names():
        noted = [row for row in printed_rows(name) if row.get("trust") == "doubtful" or _is_moved(row)]
        key = [(_source(row), _method(row), row["trust_note"].split("; mean of its rows")[0]) for row in noted]
        for (source, method, note), group in groupby(sorted(zip(key, noted, strict=True), key=lambda x: x[0]), _first):
            yield f"| {source} | {method} | {len(list(group))} | {note} |"
    yield ""


def _tables_section() -> Iterator[str]:
    yield "## The tables, marked\n"
    for name in published_names():
        rows = [row for row in printed_rows(name) if row.get("category_kind")]
        marks = {id(a.row): {"mismatch": " ≠", "within cell rounding": " ≈"}.get(a.verdict, "") for a in averages(name)}
        if not any(marks.values()) and not any(row["trust"] == "doubtful" for row in rows):
            continue
        for metric in dict.fromkeys(row["metric"] for row in rows):
            of_metric = [row for row in rows if row["metric"] == metric]
            if len({row["category"] for row in of_metric}) > 1:
                yield from _table(f"### {_source(rows[0])}: {metric}\n", of_metric, marks)


def _table(heading: str, rows: Sequence[Printed], marks: dict[int, str]) -> Iterator[str]:
    yield heading
    columns = list(dict.fromkeys(_column(row) for row in rows))
    names = [" ".join(filter(None, (method, f"({backbone})" if backbone else ""))) for method, backbone, *_ in columns]
    yield f"| | {' | '.join(names)} |"
    yield f"| --- |{' --- |' * len(columns)}"
    by_cell = {(row["category_published"], _column(row)): row for row in rows}
    for category in dict.fromkeys(row["category_published"] for row in rows):
        cells = [by_cell.get((category, column)) for column in columns]
        yield f"| {category} | {' | '.join(_cell(row, marks) for row in cells)} |"
    yield ""


def _cell(row: Printed | None, marks: dict[int, str]) -> str:
    if row is None:
        return ""
    doubt = " ?" if row["trust"] == "doubtful" else ""
    moved = f" → {row['category_corrected']}" if _is_moved(row) else ""
    return (row["value"] or "–") + doubt + marks.get(id(row), "") + moved


def _is_moved(row: Printed) -> bool:
    return row.get("category_corrected") not in (None, "", row.get("category"))


def _checked(average: Printed, values: Sequence[Decimal]) -> Average:
    printed = Decimal(average["value"])
    mean = sum(values, Decimal(0)) / len(values)
    if printed in (mean.quantize(printed, rounding) for rounding in (ROUND_HALF_UP, ROUND_HALF_EVEN)):
        return Average(average, mean, "ok")
    rounding = _half_unit(printed) + sum(map(_half_unit, values), Decimal(0)) / len(values)
    return Average(average, mean, "within cell rounding" if abs(mean - printed) <= rounding else "mismatch")


def _half_unit(value: Decimal) -> Decimal:
    return Decimal(1).scaleb(int(value.as_tuple().exponent)) / 2


def _category(row: Printed) -> tuple[str, str]:
    return row["category"], row.get("source_dataset", "")


def _column(row: Printed) -> tuple[str, ...]:
    return tuple(row.get(name, "") for name in _COLUMN)


def _method(row: Printed) -> str:
    return f"{row['method']} ({row['backbone']})" if row.get("backbone") else row["method"]


def _source(row: Printed) -> str:
    return f"{row['paper']}, {row['table']}"


def _first(pair: tuple[tuple[str, str, str], Printed]) -> tuple[str, str, str]:
    return pair[0]

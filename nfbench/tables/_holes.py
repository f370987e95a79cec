"""Gaps of a table: missing runs, which its cells mark, and values undefined without certain test images."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from nfbench.results.compare import Comparison
from nfbench.results.ledger import Account, describe_holes
from nfbench.results.record import lacking_images
from nfbench.tables._model import Cell, Column, Row, Table, Text

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["HOLE_MARK", "explain_undefined", "mark_holes", "without_images"]

HOLE_MARK = "†"


def without_images(results: pd.DataFrame) -> str:
    """Name the categories that lack normal or anomalous test images; empty if none does."""
    found: dict[str, list[str]] = {}
    columns = results[["dataset", "category", "n_test", "n_test_normal"]].drop_duplicates()
    for dataset, category, n_test, n_normal in columns.itertuples(index=False):
        if what := lacking_images(n_normal, n_test - n_normal):
            found.setdefault(what, []).append(f"{dataset}/{category}")
    return "; ".join(f"{', '.join(names)} ({what})" for what, names in found.items())


def explain_undefined(table: Table) -> Table:
    """Add to the caption which test images the undefined values would need."""
    import pandas as pd

    runs = [cell.runs for _, _, cell in table.comparisons() if len(cell.runs)]
    if not runs:
        return table
    shown = pd.concat(runs)
    undefined = shown.value.isna()
    left_out = "" if undefined.all() else ", left out of averages"
    found = without_images(shown[undefined])
    return replace(table, caption=f"{table.caption} Undefined on {found}{left_out}.") if found else table


def mark_holes(table: Table, holes: Sequence[Account]) -> Table:
    """Mark every cell that lacks a run, and name the runs in the caption.

    Runs in a setting that the table does not show are ignored.

    Args:
        table: the table.
        holes: cells of the experiment that are not done.
    """
    settings = {setting for _, _, cell in table.comparisons() for setting in cell.runs.setting}
    own = [hole for hole in holes if hole.cell.setting in settings]
    if not own:
        return table
    rows = tuple(_marked(table, row, own, settings) for row in table.rows)
    caption = f"{table.caption} NOT DONE, marked {HOLE_MARK}: {describe_holes(own)}."
    return replace(table, caption=caption, rows=rows)


def _marked(table: Table, row: Row, holes: Sequence[Account], settings: Collection[str]) -> Row:
    labels = dict(zip(table.heads, row.labels, strict=True))
    categories = row.categories if row.is_average or "category" not in labels else (labels["category"],)

    def marked(column: Column, cell: Cell) -> Cell:
        if isinstance(cell, Text):
            return cell
        who = _who(column, cell, settings)
        return replace(cell, holes=sum(_concerns(hole, labels["dataset"], categories, who) for hole in holes))

    return replace(row, cells=tuple(map(marked, table.columns, row.cells)))


def _who(column: Column, cell: Comparison, settings: Collection[str]) -> set[tuple[str, ...]]:
    """Settings, methods, backbones and conditions whose runs a cell shows or should show."""
    if column.tags:
        return {(setting, column.method, tag, "") for setting in settings for tag in column.tags}
    conditions = cell.runs.condition if "condition" in cell.runs else [""] * len(cell.runs)
    return set(zip(cell.runs.setting, cell.runs.method, cell.runs.backbone, conditions, strict=True))


def _concerns(hole: Account, dataset: str, categories: Collection[str], who: Collection[tuple[str, ...]]) -> bool:
    cell = hole.cell
    same = cell.dataset == dataset and (not categories or cell.category in categories)
    return same and (cell.setting, cell.method, cell.backbone, cell.condition) in who

"""Runs that a table lacks: named in its caption, marked in its cells."""

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from nfbench.results.ledger import Account, describe_holes
from nfbench.tables.model import AVERAGE, Column, Row, Table

__all__ = ["HOLE_MARK", "mark_holes"]

HOLE_MARK = "†"


def mark_holes(table: Table, holes: Sequence[Account]) -> Table:
    """The table with a mark at every cell that lacks a run, and a caption that names the runs.

    Args:
        table: the table.
        holes: cells of the experiment that are not done.
    """
    if not holes:
        return table
    rows = tuple(_marked(table, row, holes) for row in table.rows)
    caption = f"{table.caption} NOT DONE, marked {HOLE_MARK}: {describe_holes(holes)}."
    return replace(table, caption=caption, rows=rows)


def _marked(table: Table, row: Row, holes: Sequence[Account]) -> Row:
    one_category = row.category if table.keys[1] == "category" and row.category != AVERAGE else None
    cells = []
    for column, cell, runs in zip(table.columns, row.cells, row.runs, strict=True):
        concerned = [hole for hole in holes if _concerns(hole, row.dataset, one_category, _who(column, runs))]
        cells.append(replace(cell, holes=len(concerned)))
    return replace(row, cells=tuple(cells))


def _who(column: Column, runs: pd.DataFrame) -> set[tuple[str, str]]:
    """Methods and backbones whose runs a cell shows."""
    if column.tags:
        return {(column.method, tag) for tag in column.tags}
    return set(zip(runs.method, runs.backbone, strict=True))


def _concerns(hole: Account, dataset: str, category: str | None, who: set[tuple[str, str]]) -> bool:
    cell = hole.cell
    return cell.dataset == dataset and category in (None, cell.category) and (cell.method, cell.backbone) in who

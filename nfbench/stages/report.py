"""From run records to the report, a single HTML page."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from nfbench.core.errors import NfbenchError
from nfbench.core.files import remove_stale, write_text
from nfbench.plan.experiment_specs import ReportSpec
from nfbench.plan.made import write_made
from nfbench.plan.origin import expected_runs
from nfbench.report.data import ReportSource, collect
from nfbench.report.gallery import gallery
from nfbench.report.page import render_page
from nfbench.results.aggregate import aggregate, of_unchanged
from nfbench.results.ledger import Account, Stock, take_stock
from nfbench.stages.gather import skipped
from nfbench.tables._holes import explain_undefined, mark_holes
from nfbench.tables._model import Source, Table

__all__ = ["build_report", "write_report"]

PICTURES = 24
"""Largest number of test images of each category that the report shows."""


def build_report(spec: ReportSpec) -> None:
    """Writes the report of an experiment, including what is not done yet."""
    expected = expected_runs(spec.cells, spec.origin)
    write_report(spec, take_stock(expected, spec.paths, skipped(spec.skipped, spec.cells)))


def write_report(spec: ReportSpec, stock: Stock, pictures: int = PICTURES) -> Path:
    """Writes the report from ``stock`` and returns its path.

    Raises:
        NfbenchError: the experiment has no runs.
    """
    if not stock.expected:
        raise NfbenchError(
            f"experiment '{spec.experiment}' has no runs to report; 'nfbench show {spec.experiment}' prints its tables"
        )
    stock = stock.checked(spec.paths)
    results = aggregate(stock.records.values())
    tables, unmade = _tables(spec, results, stock.holes)
    subsets = {dataset: note.subset for dataset, note in spec.notes.items() if note.subset}
    source = ReportSource(
        spec.experiment, spec.title, stock, results, tables, unmade, subsets, spec.paths, spec.remark, spec.bundles
    )
    data = collect(source)
    data["gallery"] = gallery(stock.records, spec.paths, pictures) if pictures else []
    path = spec.paths.report(spec.experiment)
    remove_stale(path.parent)
    write_text(path, render_page(data))
    write_made(spec, [path])
    return path


def _tables(spec: ReportSpec, results: pd.DataFrame, holes: Sequence[Account]) -> tuple[list[Table], list[str]]:
    """Builds the tables from finished runs; also returns why others cannot be built yet."""
    tables, unmade = [], []
    for name, config in spec.tables.items():
        if not config.from_runs or results.empty:
            continue
        try:
            shown = results if config.of_conditions else of_unchanged(results)
            made = config.make(name, Source(shown, spec.notes))
            own = [hole for hole in holes if config.of_conditions or not hole.cell.condition]
            tables.append(mark_holes(explain_undefined(made), own))
        except NfbenchError as error:
            if not holes:
                raise
            unmade.append(str(error))
    return tables, unmade

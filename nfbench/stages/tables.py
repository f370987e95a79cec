"""From results to tables."""

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pandas as pd

from nfbench.config.tables import AnyTable
from nfbench.core.files import remove_stale, write_text
from nfbench.plan.made import write_made
from nfbench.plan.specs import DatasetNote, TableSpec, table_module
from nfbench.results.aggregate import holes_of, read_results
from nfbench.results.ledger import Account
from nfbench.tables import render
from nfbench.tables.holes import mark_holes
from nfbench.tables.model import Table

if TYPE_CHECKING:
    from nfbench.tables.parameters import ParametersTable

__all__ = ["build_table", "make_table", "table_of"]


def build_table(spec: TableSpec) -> None:
    """Writes a table as LaTeX, HTML and CSV, with published values next to measured ones."""
    table, writer = table_of(spec)
    files = {end: spec.paths.table(spec.experiment, spec.name, end) for end in ("csv", "tex", "html")}
    remove_stale(files["csv"].parent)
    for ending, write in (("tex", writer.to_latex), ("html", writer.to_html), ("csv", writer.to_csv)):
        write_text(files[ending], write(table))
    write_made(spec, list(files.values()))


def table_of(spec: TableSpec) -> "tuple[Table | ParametersTable, ModuleType]":
    """The table, and the module that writes tables of its kind."""
    if not spec.table.from_runs:
        from nfbench.tables import render_parameters  # builds models, with torch

        module = importlib.import_module(table_module(spec.table.kind))
        return module.make_parameters_table(spec.name, spec.table, spec.variants), render_parameters
    results = read_results(Path(spec.results), spec.origin)
    return make_table(spec.name, spec.table, results, spec.notes, holes_of(results)), render


def make_table(
    name: str,
    config: AnyTable,
    results: pd.DataFrame,
    notes: Mapping[str, DatasetNote],
    holes: Sequence[Account],
) -> Table:
    """A table of results, with marks where runs are missing."""
    make = getattr(importlib.import_module(table_module(config.kind)), f"make_{config.kind}_table")
    return mark_holes(make(name, config, results, notes), holes)

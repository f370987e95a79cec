"""Which published cells the tables of all experiments show, measured or quoted; found in the tables themselves."""

from collections.abc import Iterator
from typing import NamedTuple

from nfbench.config import Bench, metrics_in
from nfbench.plan.catalogue import Catalogue
from nfbench.reference import PrintedCell
from nfbench.results.compare import Comparison
from nfbench.results.supposed import official_results
from nfbench.tables._model import PUBLISHED_ONLY, Cell, Column, Row, Source

__all__ = ["Shown", "shown_cells"]


class Shown(NamedTuple):
    """A published cell in a table of ours.

    Attributes:
        cell: the published cell.
        experiment, table: that show it.
        measured_by: variants or methods that it is compared with; none where it is quoted.
    """

    cell: PrintedCell
    experiment: str
    table: str
    measured_by: tuple[str, ...]


def shown_cells(bench: Bench) -> Iterator[Shown]:
    """All published cells in tables of the experiments, made as if all runs over all official categories were done."""
    notes = Catalogue(bench).notes
    for name, experiment in bench.experiments.items():
        tables = {key: table for key, table in experiment.tables.items() if getattr(table, "published", None)}
        metrics = tuple(metrics_in([*tables.values()]))
        results = official_results(bench, name, metrics) if any(t.from_runs for t in tables.values()) else None
        for key, table in tables.items():
            variants = {method: bench.variant(method) for method, _ in table.built}
            for row, column, cell, value in table.make(key, Source(results, notes, variants)).published:
                for printed in value.cells:
                    yield Shown(printed, name, key, _measured_by(row, column, cell))


def _measured_by(row: Row, column: Column, cell: Cell) -> tuple[str, ...]:
    if isinstance(cell, Comparison):
        return tuple(dict.fromkeys(cell.runs.method))
    return () if column.group == PUBLISHED_ONLY else row.labels[:1]

"""From results to tables."""

from dataclasses import replace
from pathlib import Path

from nfbench.core.errors import faults_of
from nfbench.core.files import remove_stale, write_text
from nfbench.plan.experiment_specs import TableSpec
from nfbench.plan.made import write_made
from nfbench.results.aggregate import holes_of, of_unchanged, read_results
from nfbench.tables._holes import explain_undefined, mark_holes
from nfbench.tables._model import Source, Table
from nfbench.tables._render import to_csv, to_html, to_latex

__all__ = ["build_table", "table_of"]

_FORMS = {"tex": to_latex, "html": to_html, "csv": to_csv}


def build_table(spec: TableSpec) -> None:
    """Writes a table as LaTeX, HTML and CSV, with published values next to measured ones."""
    table = table_of(spec)
    files = {ending: spec.paths.table(spec.experiment, spec.name, ending) for ending in ("csv", *_FORMS)}
    remove_stale(files["csv"].parent)
    for ending, write in _FORMS.items():
        write_text(files[ending], write(table))
    write_made(spec, list(files.values()))


def table_of(spec: TableSpec) -> Table:
    """Builds the table; marks missing runs and notes what its undefined values would need."""
    results = read_results(Path(spec.results), spec.origin) if spec.table.from_runs else None
    holes = holes_of(results) if results is not None else ()
    if results is not None and not spec.table.of_conditions:
        results, holes = of_unchanged(results), tuple(hole for hole in holes if not hole.cell.condition)
    with faults_of(f"table '{spec.name}' of {spec.table.module}"):
        table = spec.table.make(spec.name, Source(results, spec.notes, spec.variants))
        if not isinstance(table, Table):
            raise TypeError(f"'make' must return a Table, got {table!r}")
    if spec.remark:
        table = replace(table, caption=f"{table.caption} {spec.remark}")
    return table if results is None else mark_holes(explain_undefined(table), holes)

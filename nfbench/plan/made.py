"""Records of results, tables, figures and reports: next to the files, what their stage was told, and its code."""

from pathlib import Path

from nfbench.core.seals import known_files, write_sealed
from nfbench.plan.specs import AggregateSpec, FigureSpec, ReportSpec, TableSpec

__all__ = ["GATHERED", "made_files", "write_made"]

GATHERED = ("aggregate_results", "build_table", "build_figure", "build_report")
"""Stages with such records, for checkouts that did not make the files, or whose ``.snakemake`` is gone."""


def made_files(spec: AggregateSpec | TableSpec | FigureSpec | ReportSpec) -> tuple[Path, tuple[str, ...]]:
    """Folder and names of the files of a stage, its record first."""
    paths, experiment = spec.paths, spec.experiment
    if isinstance(spec, TableSpec):
        files = [paths.table(experiment, spec.name, ending) for ending in ("csv", "tex", "html")]
    elif isinstance(spec, FigureSpec):
        files = [paths.figure(experiment, spec.name, ending) for ending in ("png", "pdf")]
    elif isinstance(spec, ReportSpec):
        files = [paths.report(experiment)]
    else:
        files = [paths.experiment(experiment, name) for name in ("results.parquet", "ledger.csv")]
    return files[0].parent, (f"{files[0].stem}.json", *(file.name for file in files))


def write_made(spec: AggregateSpec | TableSpec | FigureSpec | ReportSpec, code: str) -> None:
    """Writes the record of a stage, once its files are written.

    Args:
        spec: what the stage was told.
        code: hash of the code that the files follow from, see ``nfbench.plan.job.code_of``.
    """
    folder, (record, *names) = made_files(spec)
    written = {name: known.model_dump() for name, known in known_files(folder, names).items()}
    write_sealed(folder / record, {"spec": spec.model_dump(mode="json"), "code": code, "written": written})

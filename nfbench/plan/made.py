"""Records of results, tables, figures and reports: next to the files, what their stage was told."""

from collections.abc import Sequence
from pathlib import Path

from nfbench.core.seals import known_files, write_sealed
from nfbench.plan.specs import AggregateSpec, FigureSpec, ReportSpec, Spec, TableSpec

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


def write_made(spec: Spec, files: Sequence[Path]) -> None:
    """Writes the record of a stage, once its files are written: next to the first, with its name.

    Args:
        spec: what the stage was told.
        files: what it wrote, in one folder.
    """
    folder = files[0].parent
    written = known_files(folder, [file.name for file in files])
    values = {
        "spec": spec.model_dump(mode="json"),
        "written": {name: known.model_dump() for name, known in written.items()},
    }
    write_sealed(folder / f"{files[0].stem}.json", values)

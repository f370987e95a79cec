"""Records of results, tables, figures and reports, which keep the spec of their stage.

With them, a checkout that did not build these files still knows whether they are up to date. They lie in a folder of
the experiment, since people copy the folders of tables and figures as they are.
"""

from collections.abc import Sequence
from pathlib import Path

from nfbench.core.seals import known_files, read_sealed_values, write_sealed
from nfbench.plan.experiment_specs import AggregateSpec, ExperimentSpec, FigureSpec, ReportSpec, TableSpec
from nfbench.plan.paths import Paths

__all__ = ["GATHERED", "built_table", "made_files", "write_made"]

GATHERED = ("aggregate_results", "build_table", "build_figure", "build_report")
"""Stages with such records."""


def made_files(spec: AggregateSpec | TableSpec | FigureSpec | ReportSpec) -> tuple[Path, tuple[str, ...]]:
    """Returns ``results_root`` and the files of a stage below it, the record first."""
    paths, experiment = spec.paths, spec.experiment
    if isinstance(spec, TableSpec):
        files = [paths.table(experiment, spec.name, ending) for ending in ("csv", "tex", "html")]
    elif isinstance(spec, FigureSpec):
        files = [paths.figure(experiment, spec.name, ending) for ending in ("png", "pdf")]
    elif isinstance(spec, ReportSpec):
        files = [paths.report(experiment)]
    else:
        files = [paths.experiment(experiment, name) for name in ("results.parquet", "ledger.csv")]
    record = _record(paths, experiment, spec.stage, files[0].stem)
    return paths.root, tuple(str(path.relative_to(paths.root)) for path in (record, *files))


def write_made(spec: ExperimentSpec, files: Sequence[Path]) -> None:
    """Writes the record of a stage after its files.

    Args:
        spec: spec of the stage.
        files: files that the stage wrote.
    """
    root = spec.paths.root
    known = known_files(root, [str(file.relative_to(root)) for file in files])
    written = {name: file.model_dump() for name, file in known.items()}
    values = {"spec": spec.model_dump(mode="json"), "written": written}
    write_sealed(_record(spec.paths, spec.experiment, spec.stage, files[0].stem), values)


def built_table(paths: Paths, experiment: str, name: str) -> TableSpec | None:
    """Returns the spec that a table was built from; None if the table is not built.

    Raises:
        NfbenchError: its record has changed since it was written.
    """
    record = _record(paths, experiment, "build_table", name)
    return TableSpec.model_validate(read_sealed_values(record)["spec"]) if record.is_file() else None


def _record(paths: Paths, experiment: str, stage: str, name: str) -> Path:
    return paths.experiment(experiment, "made") / stage / f"{name}.json"

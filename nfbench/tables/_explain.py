"""Trace of a table cell to the runs behind its mean, and of each run to its inputs and commands."""

import math
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from nfbench.core.errors import NfbenchError
from nfbench.core.provenance import describe_machine, file_sha256
from nfbench.core.registry import nearest
from nfbench.plan.cells import Cell
from nfbench.plan.paths import Paths
from nfbench.plan.specs import SearchSpec, Spec, SummarizeSpec
from nfbench.results.compare import Comparison
from nfbench.results.record import RunRecord, read_record
from nfbench.tables._model import Column, Row, Table, Text

__all__ = ["TableCell", "commands_of", "describe_cell", "describe_run", "find_cell", "runs_of"]


@dataclass(frozen=True)
class TableCell:
    """A cell of a table, with its row and column."""

    table: Table
    row: Row
    column: Column
    cell: Comparison | Text


def find_cell(table: Table, row: str, column: str) -> TableCell:
    """Find a cell by names.

    Args:
        table: the table.
        row: a label of the row, such as a category or a method, or its first labels or all labels joined by slashes.
        column: name or title of the method or variant, backbone, selection and metric, joined by slashes; any of them
            that identify one column.

    Raises:
        NfbenchError: no row or column matches, or several do; names them.
    """
    fitting = [found for found in table.rows if row in _row_names(found)]
    if len(fitting) != 1:
        names = [name for found in table.rows for name in ("/".join(found.labels), found.label)]
        whole = ", ".join("/".join(found.labels) for found in fitting)
        hint = f"; choose one: {whole}" if fitting else nearest(row, names)
        raise NfbenchError(f"table '{table.name}' has {len(fitting)} rows '{row}'{hint}")
    wanted = set(column.split("/"))
    columns = [index for index, found in enumerate(table.columns) if wanted <= _names(found)]
    if len(columns) != 1:
        known = "; ".join(_label(found) for found in table.columns)
        raise NfbenchError(f"table '{table.name}' has {len(columns)} columns '{column}'; known: {known}")
    (index,) = columns
    (found_row,) = fitting
    return TableCell(table, found_row, table.columns[index], found_row.cells[index])


def describe_cell(found: TableCell) -> Iterator[str]:
    """Describe the cell and how it is computed from its runs."""
    cell = found.cell
    where = f"{found.table.name}, row {'/'.join(filter(None, found.row.labels))}, column {_label(found.column)}"
    if isinstance(cell, Text):
        first, *more = cell.trace or (cell.text, *filter(None, [cell.hint]))
        yield f"{where}: {first}"
        yield from more
        return
    if math.isnan(cell.mean):
        yield f"{where}: nothing measured"
    else:
        runs, spread = cell.runs, "" if math.isnan(cell.std) else f" ± {cell.std:.10g}"
        categories = f" of means over {runs.category.nunique()} categories" if runs.category.nunique() > 1 else ""
        yield f"{where}: {cell.mean:.10g}{spread}, mean over {cell.n_seeds} seeds{categories}, {len(runs)} runs"
    if cell.holes:
        yield f"missing runs: {cell.holes}; 'nfbench status' lists them"
    if cell.published and cell.published.is_lost:
        yield f"published in {found.table.source}: lost, {cell.published.note}"
    elif cell.published:
        trust = "" if cell.published.trusted else f", doubtful: {cell.published.note}"
        difference = "" if math.isnan(cell.difference) else f", difference {cell.difference:+.2f}, {cell.status}"
        yield f"published in {found.table.source}: {cell.published.value:g}{trust}{difference}"


def runs_of(found: TableCell) -> Iterator[pd.Series]:
    """Yield the runs behind a cell; none for cells built from code or quoted from a paper."""
    if found.cell.runs is not None:
        yield from (run for _, run in found.cell.runs.iterrows())


def describe_run(run: pd.Series, paths: Paths) -> Iterator[str]:
    """Describe a run: its value, inputs and commands.

    Args:
        run: row of the aggregated results.
        paths: locations of all files.
    """
    place = (run.setting, run.dataset, run.category, run.method, run.backbone, int(run.seed))
    cell = Cell(*place, run.get("condition", ""))
    path = paths.run_record(cell)
    record = read_record(path)
    yield f"{cell}: {run.metric} {run.value:.10g}{_selected(run, record)}"
    yield f"  record    {path}"
    made = record.provenance["train"]
    changes = " with uncommitted changes" if made["dirty"] else ""
    yield f"  code      nfbench {made['nfbench']}, commit {made['commit'] or 'unknown'}{changes}"
    yield f"  images    {record.data.manifest}, SHA-256 {record.data.manifest_sha256}{_changed(record)}"
    recipe = record.features.recipe
    yield f"  weights   {recipe.backbone.name}, {recipe.weights}, SHA-256 {recipe.weights_sha256}"
    yield f"  features  training {record.features.train_key}, test {record.features.test_key}"
    yield f"  seed      {cell.seed}"
    if cell.condition:
        yield f"  condition {cell.condition}"
    if record.search:
        found = ", ".join(f"{name} {value}" for name, value in record.search.settings.items())
        trials = f"trial {record.search.trial} of {sum(record.search.trials.values())}"
        yield f"  settings  {found}: {trials} in {paths.study_of(cell).parent}, judged by {record.search.objective}"
    yield f"  machine   {describe_machine(made)}"
    for command in commands_of(record):
        yield f"  $ {command}"


def commands_of(record: RunRecord) -> list[str]:
    """Return the commands that make a run from manifests, in order, from its specs."""
    specs, made = record.specs, record.provenance
    commands = [_command(spec, made["extract"]) for spec in specs.extract]
    if specs.study:
        workers = range(specs.study.variant.searched.workers)
        commands.append(_command(specs.study))
        commands += [_command(SearchSpec(study=specs.study, worker=number), made["train"]) for number in workers]
        commands.append(_command(SummarizeSpec(study=specs.study)))
    of_model = [_command(specs.train, made["train"]), _command(specs.score, made["score"])]
    return [*commands, *of_model, _command(specs.evaluate)]


def _command(spec: Spec, made: Mapping[str, Any] | None = None) -> str:
    """Command of a stage, with the device and threads of the process that ran it."""
    where = ["--device", made["device"], "--threads", str(made["threads"])] if made else []
    return shlex.join(["nfbench", spec.stage, "--spec", spec.to_json(), *where])


def _selected(run: pd.Series, record: RunRecord) -> str:
    """Name the scored checkpoint; warn if the record has another value than the results."""
    selection = record.selections.get(run.selection)
    if selection is None or run.metric not in selection.metrics:
        return ""
    epoch = selection.epoch[run.metric] if isinstance(selection.epoch, dict) else selection.epoch
    now = selection.metrics[run.metric]
    stale = "" if now is None or now == run.value else f"; THE RECORD NOW HAS {now:.10g}, aggregate again"
    return f", checkpoint of epoch {epoch} ({run.selection}){stale}"


def _changed(record: RunRecord) -> str:
    path = Path(record.data.manifest)
    if not path.is_file():
        return ", which no longer exists"
    return "" if file_sha256(path) == record.data.manifest_sha256 else "; THE FILE HAS CHANGED"


def _row_names(row: Row) -> set[str]:
    """Each label, and the first labels joined by slashes."""
    return {*row.labels, *("/".join(row.labels[:count]) for count in range(1, len(row.labels) + 1))} - {""}


def _names(column: Column) -> set[str]:
    return {column.method, column.title, column.backbone, column.selection, column.metric, *column.tags} - {""}


def _label(column: Column) -> str:
    parts = (column.method or column.title, column.backbone, column.selection, column.metric)
    return "/".join(dict.fromkeys(part for part in parts if part))

"""What stands behind a number, and how far a benchmark is."""

import shlex
from typing import TYPE_CHECKING, Annotated

import typer

from nfbench.cli.load import Experiment, Overrides, load_experiment, load_plan
from nfbench.core.errors import NfbenchError
from nfbench.core.registry import nearest

if TYPE_CHECKING:
    from nfbench.tables.parameters import ParametersTable

__all__ = ["explain", "status"]


def explain(
    table: Annotated[str, typer.Argument(help="Name of the table.")],
    row: Annotated[str, typer.Argument(help="Category, dataset/category, or label of the row.")],
    column: Annotated[str, typer.Argument(help="Method, or method/backbone/selection/metric as far as needed.")],
    overrides: Overrides = "{}",
) -> None:
    """Trace a cell of a table to its runs: records, code, hashes of data and weights, seeds, and commands."""
    from nfbench.results.aggregate import read_results
    from nfbench.stages.tables import table_of
    from nfbench.tables.explain import describe_cell, describe_run, find_cell
    from nfbench.tables.model import Table

    plan = load_plan(overrides)
    experiment = plan.bench.owner("tables", table).name
    spec = plan.table(experiment, table).spec
    made, _ = table_of(spec)
    build = [f"nfbench build_table {shlex.join([experiment, table, '--config', overrides])}"]
    if isinstance(made, Table):
        found = find_cell(made, row, column)
        lines = [*describe_cell(found)]
        for _, run in found.runs.iterrows():
            lines += ["", *describe_run(run, plan.paths)]
        build.insert(0, read_results(plan.paths.experiment(experiment, "results.parquet")).attrs["command"])
    else:
        lines = [*_describe_count(made, row, column)]
    lines += ["", "the table is made of these records by", *(f"  $ {command}" for command in build)]
    typer.echo("\n".join(lines))


def status(experiment: Experiment = None, overrides: Overrides = "{}") -> None:
    """Say how far an experiment is: cells by status, what runs, what failed and why, and how long the rest takes."""
    from nfbench.results.progress import describe_progress
    from nfbench.stages.gather import stock_of

    plan, name = load_experiment(experiment, overrides)
    typer.echo("\n".join([f"{name}:", *describe_progress(stock_of(plan, name), plan.paths)]))


def _describe_count(table: "ParametersTable", row: str, column: str) -> list[str]:
    """A count of parameters follows from code alone."""
    rows = {f"{found.method}/{found.backbone}": found for found in table.rows}
    if row not in rows:
        raise NfbenchError(f"table '{table.name}' has no row '{row}'{nearest(row, rows)}")
    counts = {**rows[row].parts, "total": rows[row].total}
    if column not in counts:
        raise NfbenchError(f"table '{table.name}' has no column '{column}'{nearest(column, counts)}")
    lines = [f"{table.name}, row {row}, column {column}: {counts[column]:,} trainable parameters"]
    if rows[row].settings:
        lines.append(f"counted in a model that is built with {rows[row].settings}")
    if published := rows[row].published:
        lines.append(f"published in {published.source}: {published.text}")
    return lines + [rows[row].explanation] * bool(rows[row].explanation)

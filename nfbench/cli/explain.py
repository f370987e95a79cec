"""Trace a number to its runs; status of an experiment."""

import shlex
from typing import Annotated

import typer

from nfbench.cli.load import Experiment, Overrides, load_experiment, load_plan

__all__ = ["explain", "status"]


def explain(
    table: Annotated[str, typer.Argument(help="Name of the table.")],
    row: Annotated[str, typer.Argument(help="Category, dataset/category, or label of the row.")],
    column: Annotated[str, typer.Argument(help="Method, or as much of method/backbone/selection/metric as is needed.")],
    overrides: Overrides = "{}",
) -> None:
    """Trace a cell of a table to its runs: records, code, hashes of data and weights, seeds, commands."""
    from nfbench.results.aggregate import read_results
    from nfbench.stages.tables import table_of
    from nfbench.tables._explain import describe_cell, describe_run, find_cell, runs_of

    plan = load_plan(overrides)
    experiment = plan.bench.owner("tables", table).name
    spec = plan.table(experiment, table).spec
    found = find_cell(table_of(spec), row, column)
    lines = [*describe_cell(found)]
    for run in runs_of(found):
        lines += ["", *describe_run(run, plan.paths)]
    build = [f"nfbench build_table {shlex.join([experiment, table, '--config', overrides])}"]
    if spec.table.from_runs:
        build.insert(0, read_results(plan.paths.experiment(experiment, "results.parquet")).attrs["command"])
    lines += ["", "commands that make the table from these records:", *(f"  $ {command}" for command in build)]
    typer.echo("\n".join(lines))


def status(experiment: Experiment = None, overrides: Overrides = "{}") -> None:
    """Print the status of an experiment: cells by status, running and failed jobs, errors, and time left."""
    from nfbench.results.progress import describe_progress
    from nfbench.stages.gather import stock_of

    plan, name = load_experiment(experiment, overrides)
    typer.echo("\n".join([f"{name}:", *describe_progress(stock_of(plan, name), plan.paths)]))

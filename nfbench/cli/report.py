"""The report: one page of HTML with everything that came of an experiment."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nfbench.cli.build import Experiment, Overrides, dataset_notes, load, make_table, take_stock_of
from nfbench.config import Bench
from nfbench.core.errors import NfbenchError
from nfbench.plan.paths import Paths

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from nfbench.results.ledger import Account
    from nfbench.tables.model import Table

__all__ = ["build_report", "report"]

Pictures = Annotated[int, typer.Option(min=0, help="Test images of each category that are shown with their maps.")]


def build_report(experiment: Experiment, overrides: Overrides = "{}", pictures: Pictures = 5) -> None:
    """Write the report of an experiment, with what is done and what is not."""
    _write(load(overrides), experiment, pictures)


def report(
    experiment: Annotated[str | None, typer.Argument(help="Experiment, by default the configured one.")] = None,
    overrides: Overrides = "{}",
    pictures: Pictures = 5,
) -> None:
    """Write the report of an experiment as it stands, finished or not, and say where it is."""
    bench = load(overrides)
    typer.echo(f"report: {_write(bench, experiment or bench.config.experiment, pictures).absolute()}")


def _write(bench: Bench, name: str, pictures: int) -> Path:
    from nfbench.core.files import write_text
    from nfbench.report.data import ReportSource, collect
    from nfbench.report.gallery import gallery
    from nfbench.report.page import render_page
    from nfbench.results.aggregate import aggregate

    paths = Paths(bench.config.results_root)
    stock = take_stock_of(bench, name)
    if not stock.expected:
        raise NfbenchError(f"experiment '{name}' has no runs to report; 'nfbench show {name}' prints its tables")
    results = aggregate(stock.records.values())
    tables, unmade = _tables(bench, name, results, stock.holes)
    title = bench.experiment(name).title
    subsets = {dataset: note.subset for dataset, note in dataset_notes(bench).items() if note.subset}
    data = collect(ReportSource(name, title, stock, results, tables, unmade, subsets, paths))
    data["gallery"] = gallery(stock.records, paths, pictures)
    write_text(paths.report(name), render_page(data))
    return paths.report(name)


def _tables(
    bench: Bench, name: str, results: "pd.DataFrame", holes: "Sequence[Account]"
) -> "tuple[list[Table], list[str]]":
    """Tables of the runs that are done, and why others cannot be made where some are not."""
    tables, unmade = [], []
    for table, config in bench.experiment(name).tables.items():
        if config.kind == "parameters" or results.empty:
            continue
        try:
            tables.append(make_table(bench, table, config, results, holes))
        except NfbenchError as error:
            if not holes:
                raise
            unmade.append(str(error))
    return tables, unmade

"""What comes of the runs of an experiment: results, tables, figures, and a look at the tables."""

import importlib
import json
import textwrap
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated

import typer

from nfbench.config import AvailableAmong, Bench, DatasetConfig, load_bench, read_config
from nfbench.core.errors import NfbenchError
from nfbench.core.registry import nearest
from nfbench.datasets.base import find_dataset
from nfbench.datasets.sources import read_sources, record_path
from nfbench.plan.cells import Cell, expand, members
from nfbench.plan.paths import Paths

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from nfbench.config.tables import AnyTable
    from nfbench.results.ledger import Account, Stock
    from nfbench.tables.datasets import DatasetNotes
    from nfbench.tables.model import Table
    from nfbench.tables.parameters import ParametersTable

__all__ = [
    "Experiment",
    "Overrides",
    "aggregate_results",
    "available_categories",
    "build_figure",
    "build_table",
    "dataset_notes",
    "dataset_root",
    "is_miniature",
    "load",
    "make_table",
    "show",
    "table_of",
    "take_stock_of",
    "to_fetch",
]

Experiment = Annotated[str, typer.Option(help="Name of the experiment.")]
Overrides = Annotated[str, typer.Option("--config", help="Keys that override config.yaml, as JSON.")]
Name = Annotated[str, typer.Option(help="Name of the table or figure.")]


def load(overrides: str = "{}", folder: Path = Path()) -> Bench:
    """Reads ``config.yaml`` and the experiments of a checkout, with overrides as JSON."""
    path = folder / "config.yaml"
    if not path.is_file():
        raise NfbenchError(f"{path.absolute()} is missing; run this in the folder of the Snakefile")
    return load_bench(read_config(path, json.loads(overrides)), folder / "workflow" / "experiments")


def is_miniature(bench: Bench, dataset: str) -> bool:
    """Whether a dataset's tiny copy is read instead of its images."""
    return bench.config.miniature and find_dataset(bench.dataset(dataset).dataset).has_miniature


def dataset_root(bench: Bench, dataset: str) -> Path:
    """Folder of a dataset's categories: of its images, or of its tiny copy."""
    if is_miniature(bench, dataset):
        return Path(bench.config.results_root) / "images" / bench.dataset(dataset).dataset
    return bench.dataset_root(dataset)


def to_fetch(bench: Bench, dataset: str) -> list[str]:
    """The reader of a dataset that is to be downloaded before it is read, if it is, or was."""
    config = bench.dataset(dataset)
    source = read_sources().get(config.dataset)
    if source is None or config.root or is_miniature(bench, dataset):
        return []
    fetched = record_path(config.dataset, Path(bench.config.data_root)).exists()  # stays an input, or all is made again
    wanted = bench.config.fetch and source.access == "open" and not bench.dataset_root(dataset).exists()
    return [config.dataset] if fetched or wanted else []


def available_categories(bench: Bench, dataset: str) -> list[str]:
    """Categories of a dataset that are there to be used.

    Raises:
        NfbenchError: there is none, or a grid asks for a category that the dataset does not have, where it is on disk.
    """
    if bench.dataset(dataset).union:
        return list(members(bench, dataset, lambda member: available_categories(bench, member)))
    reader = find_dataset(bench.dataset(dataset).dataset)
    blocks = [
        (f"experiment '{experiment.name}'", block.datasets)
        for experiment in bench.experiments.values()
        for block in experiment.grid
    ]
    unions = [(f"union '{name}'", config.union) for name, config in bench.datasets.items() if config.union]
    for asking, by_dataset in blocks + unions:
        categories = by_dataset.get(dataset)
        for category in categories.available if isinstance(categories, AvailableAmong) else ():
            if reader.categories and category not in reader.categories:
                hint = nearest(category, reader.categories)
                raise NfbenchError(f"{asking}: '{dataset}' has no category '{category}'{hint}")
    if is_miniature(bench, dataset) or (to_fetch(bench, dataset) and not bench.dataset_root(dataset).exists()):
        return list(reader.categories)
    return reader.available(dataset_root(bench, dataset))


def _cells(bench: Bench, experiment: str) -> list[Cell]:
    return expand(bench, experiment, lambda dataset: available_categories(bench, dataset))


def take_stock_of(bench: Bench, experiment: str) -> "Stock":
    """What became of every cell of an experiment, with those that were skipped."""
    from nfbench.results.jobs import last_job
    from nfbench.results.ledger import skipped_cells, take_stock

    @cache
    def available(name: str) -> list[str]:
        return available_categories(bench, name)

    def official(dataset: str) -> tuple[str, ...]:
        return find_dataset(bench.dataset(dataset).dataset).categories

    paths = Paths(bench.config.results_root)
    jobs = {cell: last_job(bench, cell, available, paths) for cell in expand(bench, experiment, available)}
    return take_stock(jobs, paths, skipped_cells(bench, experiment, available, official))


def aggregate_results(
    experiment: Experiment,
    overrides: Overrides = "{}",
    allow_holes: Annotated[bool, typer.Option(help="Gather what is there; tables then name what is not.")] = False,
) -> None:
    """Gather the run records of an experiment; every expected cell is accounted for in the ledger."""
    from nfbench.core.files import write_text
    from nfbench.results.aggregate import aggregate, write_results
    from nfbench.results.ledger import describe_holes

    bench = load(overrides)
    path = Paths(bench.config.results_root).experiment(experiment, "ledger.csv")
    stock = take_stock_of(bench, experiment)
    if not stock.expected:
        raise NfbenchError(f"experiment '{experiment}' has no runs to gather; its tables need none")
    write_text(path, stock.table().to_csv(index=False))
    if stock.holes and not (allow_holes and stock.records):
        invalid = " ".join(
            str(Paths(bench.config.results_root).run_record(hole.cell))
            for hole in stock.holes
            if hole.reason.startswith("invalid record")
        )
        remove = f"remove {invalid} and " if invalid else ""
        raise NfbenchError(
            f"experiment '{experiment}': {len(stock.holes)} of {stock.expected} cells are not done: "
            f"{describe_holes(stock.holes)}; all are in {path}; to make them, {remove}run 'snakemake --cores all "
            f"{experiment}'; to go on without them, 'nfbench aggregate_results --experiment {experiment} --allow-holes'"
        )
    write_results(path.with_name("results.parquet"), aggregate(stock.records.values()))


def build_table(experiment: Experiment, name: Name, overrides: Overrides = "{}") -> None:
    """Write a table of an experiment as LaTeX, HTML and CSV."""
    from nfbench.core.files import write_text

    bench = load(overrides)
    table, writer = table_of(bench, experiment, name)
    paths = Paths(bench.config.results_root)
    for ending, render in (("tex", writer.to_latex), ("html", writer.to_html), ("csv", writer.to_csv)):
        write_text(paths.table(name, ending), render(table))


def build_figure(experiment: Experiment, name: Name, overrides: Overrides = "{}") -> None:
    """Draw a figure of an experiment as PDF and PNG."""
    from nfbench.figures.base import read_runs, write_figure

    bench = load(overrides)
    figures = bench.experiment(experiment).figures
    if name not in figures:
        raise NfbenchError(f"experiment '{experiment}' has no figure '{name}'{nearest(name, figures)}")
    paths = Paths(bench.config.results_root)
    kind, setting = figures[name].kind, figures[name].setting
    draw = getattr(importlib.import_module(f"nfbench.figures.{kind}"), f"draw_{kind}")
    cells = [cell for cell in _cells(bench, experiment) if setting in (None, cell.setting)]
    if not cells:
        raise NfbenchError(f"figure '{name}': experiment '{experiment}' has no runs in its setting '{setting}'")
    figure = draw(read_runs(cells, paths))
    write_figure(figure, [paths.figure(name, "pdf"), paths.figure(name, "png")])


def show(
    experiment: Annotated[str | None, typer.Argument(help="Experiment, by default the configured one.")] = None,
    overrides: Overrides = "{}",
) -> None:
    """Print the tables of an experiment and say where tables, figures and report are."""
    bench = load(overrides)
    name = experiment or bench.config.experiment
    paths = Paths(bench.config.results_root)
    for table_name in bench.experiment(name).tables:
        table, writer = table_of(bench, name, table_name)
        typer.echo(f"\n{textwrap.fill(table.caption, 100)}\n\n{writer.to_text(table)}")
    typer.echo("")
    for kind, pattern in (("tables", paths.table("*", "*")), ("figures", paths.figure("*", "*"))):
        typer.echo(f"{kind}: {pattern.parent.absolute()}/")
    for report in (paths.report(name), paths.root / "report.html"):
        if report.is_file():
            typer.echo(f"report: {report.absolute()}")


def table_of(bench: Bench, experiment: str, name: str) -> tuple["Table | ParametersTable", ModuleType]:
    """A table, and the module that writes tables of its kind."""
    tables = bench.experiment(experiment).tables
    if name not in tables:
        raise NfbenchError(f"experiment '{experiment}' has no table '{name}'{nearest(name, tables)}")
    config = tables[name]
    if config.kind == "parameters":
        from nfbench.tables import render_parameters
        from nfbench.tables.parameters import make_parameters_table

        return make_parameters_table(name, config, bench), render_parameters
    from nfbench.results.aggregate import read_results
    from nfbench.results.ledger import read_holes
    from nfbench.tables import render

    path = Paths(bench.config.results_root).experiment(experiment, "results.parquet")
    results = read_results(path)
    return make_table(bench, name, config, results, read_holes(path.with_name("ledger.csv"))), render


def make_table(
    bench: Bench, name: str, config: "AnyTable", results: "pd.DataFrame", holes: "Sequence[Account]"
) -> "Table":
    """A table of results, with marks where runs are lacking."""
    from nfbench.tables.backbones import make_backbones_table
    from nfbench.tables.holes import mark_holes
    from nfbench.tables.methods import make_methods_table
    from nfbench.tables.model import make_table
    from nfbench.tables.settings import make_settings_table

    kinds = {
        "results": make_table,
        "backbones": make_backbones_table,
        "methods": make_methods_table,
        "settings": make_settings_table,
    }
    make = kinds[config.kind]
    return mark_holes(make(name, config, results, dataset_notes(bench)), holes)


def dataset_notes(bench: Bench) -> "DatasetNotes":
    """What tables must know of the datasets that a configuration names."""
    from nfbench.tables.datasets import DatasetNote

    blocks = [block for experiment in bench.experiments.values() for block in experiment.grid]
    named = {*bench.datasets, *(name for block in blocks for name in block.datasets)}
    named = sorted({*named, *(member for name in named for member in bench.dataset(name).union or ())})
    subsets = {name: _subset(bench.dataset(name)) for name in named if bench.dataset(name).is_subset}
    subsets |= {name: "made-up images instead of its own" for name in named if is_miniature(bench, name)}
    unions = {name: tuple(bench.dataset(name).union) for name in named if bench.dataset(name).union}
    for name, union in unions.items():
        if parts := [f"{member}: {subsets[member]}" for member in union if member in subsets]:
            subsets[name] = "; ".join(parts)
    return {name: DatasetNote(subsets.get(name, ""), unions.get(name, ())) for name in {*subsets, *unions}}


def _subset(dataset: DatasetConfig) -> str:
    limits = (
        ("training", dataset.max_train),
        ("normal test", dataset.max_test_normal),
        ("anomalous test", dataset.max_test_anomalous),
    )
    kept = [f"at most {limit} {kind} images" for kind, limit in limits if limit]
    frames = [f"one of {dataset.stride} frames of each video"] if dataset.stride > 1 else []
    return "a subset: " + ", ".join([*frames, *kept])

"""The results of an experiment in the terminal: means, tables, and where the files are."""

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nfbench.cli.load import Experiment, Overrides, load_experiment
from nfbench.config import Experiment as ExperimentConfig
from nfbench.plan.paths import Paths

if TYPE_CHECKING:
    from nfbench.config.tables import AnyTable
    from nfbench.tables._model import Row, Table

__all__ = ["means_of", "print_results", "show"]

_WIDTH = 100


def show(
    experiment: Experiment = None,
    overrides: Overrides = "{}",
    tables: Annotated[bool, typer.Option("--tables", help="Print every table in full.")] = False,
) -> None:
    """Print the means of an experiment, one column per method, and where its tables, figures and report are.

    Tables without means, such as those of parameters, are printed in full.
    """
    from nfbench.plan.made import built_table
    from nfbench.stages.tables import table_of

    plan, name = load_experiment(experiment, overrides)
    config = plan.bench.experiment(name)
    specs = [built_table(plan.paths, name, table) or plan.table(name, table).spec for table in config.tables]
    if print_results(config.title, [(spec.table, table_of(spec)) for spec in specs], tables):
        typer.echo(f"'nfbench show {name} --tables' prints the tables with all categories and published values")
    typer.echo("")
    for kind, path in _places(name, config, plan.paths):
        typer.echo(f"{kind}: {path}")


def print_results(title: str, tables: "Sequence[tuple[AnyTable, Table]]", in_full: bool = False) -> bool:
    """Prints the means of tables of results, and other tables in full.

    Args:
        title: title of the experiment.
        tables: tables with their configurations.
        in_full: print every table in full.

    Returns:
        Whether means were printed.
    """
    from nfbench.tables._render import to_text
    from nfbench.tables.results import ResultsTable

    means: list[tuple[str, Table]] = []
    for config, table in tables:
        if isinstance(config, ResultsTable) and not in_full:
            means.append((config.metric, table))
        else:
            typer.echo(f"\n{textwrap.fill(table.caption, _WIDTH)}\n\n{to_text(table)}")
    if means:
        typer.echo(f"\n{title}: means over categories and seeds\n\n{means_of(means)}\n")
        typer.echo(textwrap.fill(_notes(table.caption for _, table in means), _WIDTH))
    return bool(means)


def means_of(tables: "Sequence[tuple[str, Table]]") -> str:
    """One column per method, and one row per metric, dataset and selection.

    Args:
        tables: Metrics and their tables of results. Of two tables that share a cell, the later one is shown.
    """
    from nfbench.results.compare import Comparison
    from nfbench.tables._render import align, measured
    from nfbench.tables._titles import metric_title

    backbones = {column.backbone for _, table in tables for column in table.measured}
    heads: dict[tuple[str, str], None] = {}
    body: dict[tuple[str, str, str], dict[tuple[str, str], str]] = {}
    for metric, table in tables:
        for row in _mean_rows(table):
            for column, cell in zip(table.columns, row.cells, strict=True):
                if isinstance(cell, Comparison):
                    head = column.title, column.backbone if len(backbones) > 1 else ""
                    key = metric_title(column.metric or metric), row.labels[0], column.selection
                    heads[head] = None
                    body.setdefault(key, {})[head] = measured(cell)
    above = [["metric", "dataset", "selection", *(title for title, _ in heads)]]
    above += [["", "", "", *(backbone for _, backbone in heads)]] if len(backbones) > 1 else []
    lines = [[*key, *(cells.get(head, "") for head in heads)] for key, cells in body.items()]
    return align(above, _without_repeats(lines))


def _mean_rows(table: "Table") -> "Iterator[Row]":
    """The means of each dataset over its categories, or its only category."""
    for _, group in groupby(table.rows, key=lambda row: row.labels[0]):
        rows = list(group)
        yield next((row for row in rows if row.is_average and not row.kind), rows[0])


def _without_repeats(lines: list[list[str]]) -> list[list[str]]:
    """The lines, with a metric or dataset left blank where it repeats that of the line above."""
    shown, before = [], ["", ""]
    for line in lines:
        metric = "" if line[0] == before[0] else line[0]
        shown.append([metric, "" if line[:2] == before else line[1], *line[2:]])
        before = line[:2]
    return shown


def _notes(captions: Iterable[str]) -> str:
    """The sentences of captions, each once, without the first ones, which are titles."""
    sentences = (sentence for caption in captions for sentence in caption.removesuffix(".").split(". ")[1:])
    return " ".join(f"{sentence}." for sentence in dict.fromkeys(sentences))


def _places(name: str, config: ExperimentConfig, paths: Paths) -> Iterator[tuple[str, Path | str]]:
    for kind, path in (("tables", paths.table(name, "*", "*")), ("figures", paths.figure(name, "*", "*"))):
        if getattr(config, kind):
            yield kind, f"{path.parent.absolute()}/"
    for page in (paths.report(name), paths.root / "report.html"):
        if page.is_file():
            yield "report", page.absolute()

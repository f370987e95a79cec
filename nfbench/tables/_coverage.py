"""Coverage of published values by the tables of all experiments, compared or quoted."""

from collections.abc import Iterable, Iterator, Mapping, Set
from itertools import groupby
from typing import NamedTuple

from nfbench.config import Bench, metrics_in
from nfbench.plan.catalogue import Catalogue
from nfbench.reference import PrintedCell, printed_cells, printed_rows
from nfbench.results.compare import Comparison
from nfbench.results.supposed import official_results
from nfbench.tables._model import PUBLISHED_ONLY, Cell, Column, Source

__all__ = [
    "Shown",
    "coverage_page",
    "figures_without_target",
    "missing_cells",
    "quoted_alone",
    "reasons",
    "shown_cells",
]

_INTRODUCTION = """\
# Coverage of the papers

This page is written by `nfbench coverage > docs/coverage.md` from `nfbench/reference` and the experiments. It builds
each table as if all runs over all official categories were done, and counts the published values in its cells.

- A value counts if it is printed and known. Cells with "–" do not count, nor do the {lost} values lost in the source
  text; tables mark those.
- A value that a paper prints in two tables counts twice.
- *Compared* values are shown next to our own runs or counts.
- *Quoted* values belong to methods that the experiment does not run. The end of the page gives the reasons if no
  experiment runs them.
- Tables that repeat others at another checkpoint are left out.

**{share} values are in a table.**
"""


class Shown(NamedTuple):
    """A published cell in a table of ours.

    Attributes:
        cell: the published cell.
        experiment, table: where the cell is shown.
        compared_with: variants or methods whose runs the cell is compared with; ``counted`` for tables built from code
            or data; empty if the cell is only quoted.
    """

    cell: PrintedCell
    experiment: str
    table: str
    compared_with: tuple[str, ...]


def shown_cells(bench: Bench) -> Iterator[Shown]:
    """Yield all published cells in tables of the experiments, as if all runs over all official categories were done."""
    notes = Catalogue(bench).notes
    for name, experiment in bench.experiments.items():
        tables = {key: table for key, table in experiment.tables.items() if getattr(table, "published", None)}
        metrics = tuple(metrics_in([*tables.values()]))
        results = official_results(bench, name, metrics) if any(t.from_runs for t in tables.values()) else None
        for key, table in tables.items():
            variants = {method: bench.variant(method) for method, _ in table.built}
            for column, cell, value in table.make(key, Source(results, notes, variants)).published:
                for printed in value.cells:
                    yield Shown(printed, name, key, _compared_with(column, cell))


def missing_cells(shown: Iterable[Shown]) -> list[PrintedCell]:
    """Published values, known or lost, that no table shows."""
    found = {one.cell for one in shown}
    return [
        cell
        for name in _indexed()
        for cell in printed_cells(name)
        if (cell.is_known or cell.is_lost) and cell not in found
    ]


def figures_without_target(bench: Bench) -> list[str]:
    """Figures of the papers that no experiment draws."""
    targets = {figure for experiment in bench.experiments.values() for figure in experiment.figures}
    return [f"{row['source']}: {row['figure']}" for row in printed_rows("figures") if row["target"] not in targets]


def coverage_page(bench: Bench) -> str:
    """Write the page: for each table and figure of the papers, what makes it, and how many values are shown."""
    found: dict[str, list[Shown]] = {name: [] for name in _indexed()}
    for one in shown_cells(bench):
        found.setdefault(one.cell.table, []).append(one)
    known = {name: {cell for cell in printed_cells(name) if cell.is_known} for name in _indexed()}
    lost = sum(cell.is_lost for name in known for cell in printed_cells(name))
    lines = [_INTRODUCTION.format(share=_share(known, known, found), lost=lost)]
    for source, group in groupby(sorted(printed_rows("index"), key=_source), key=_source):
        rows = list(group)
        names = [row["file"].removesuffix(".csv") for row in rows]
        lines += [f"## {source[0].upper()}{source[1:]}: {_share(names, known, found)}", ""]
        lines += ["| table | values shown | experiment: tables | compared with | quoted |", f"|{' --- |' * 5}"]
        for name, row in zip(names, rows, strict=True):
            title = f"{row['paper']}, {row['table']}"
            lines += _table_lines(f"{title} | {_share([name], known, found)}", known[name], found[name])
        lines += ["", *_figure_lines(source, bench)]
    lines += ["## Methods that are only quoted", "", "| method | tables | why |", f"|{' --- |' * 3}"]
    lines += _quoted_lines(one for name in found for one in found[name])
    return "\n".join(lines).rstrip() + "\n"


def quoted_alone(shown: Iterable[Shown]) -> list[tuple[str, str]]:
    """Methods with the published tables in which no experiment compares them with runs."""
    measured: dict[tuple[str, str], bool] = {}
    for one in shown:
        key = _method(one.cell), one.cell.table
        measured[key] = measured.get(key, False) or bool(one.compared_with)
    return sorted(key for key, has_runs in measured.items() if not has_runs)


def reasons() -> dict[tuple[str, str], str]:
    """Reasons for quoting, by method and published table; an empty table name means all tables."""
    return {(row["method"], row["table"]): row["why"] for row in printed_rows("quoted")}


def _quoted_lines(shown: Iterable[Shown]) -> Iterator[str]:
    why, tables = reasons(), dict[tuple[str, str], list[str]]()
    for method, table in quoted_alone(shown):
        reason = why.get((method, table)) or why.get((method, ""), "no reason is known")
        tables.setdefault((method, reason), []).append(table)
    for (method, reason), named in tables.items():
        yield f"| {method} | {', '.join(named)} | {reason} |"


def _share(names: Iterable[str], known: Mapping[str, Set[PrintedCell]], found: Mapping[str, list[Shown]]) -> str:
    """Number of known values of published tables that are shown, and their total."""
    names = list(names)
    shown = sum(len({one.cell for one in found[name]} & known[name]) for name in names)
    return f"{shown:,} of {sum(len(known[name]) for name in names):,}"


def _table_lines(head: str, known: Set[PrintedCell], found: Iterable[Shown]) -> Iterator[str]:
    """One line per experiment that shows values of a published table, the one with most comparisons first."""
    by_experiment: dict[str, list[Shown]] = {}
    for one in found:
        if one.cell in known:
            by_experiment.setdefault(one.experiment, []).append(one)
    if not by_experiment:
        yield f"| {head} | none | | |"
    for shown in sorted(by_experiment.values(), key=lambda some: -len({one.cell for one in some if one.compared_with})):
        compared: dict[str, dict[str, None]] = {}
        for one in shown:
            compared.setdefault(_method(one.cell), {}).update(dict.fromkeys(one.compared_with))
        beside = (f"{method} ({', '.join(ours)})" for method, ours in compared.items() if ours)
        quoted = (method for method, ours in compared.items() if not ours)
        tables = ", ".join(_needed(shown))
        yield f"| {head} | `{shown[0].experiment}`: {tables} | {'; '.join(beside)} | {', '.join(quoted)} |"
        head = " | "


def _needed(shown: Iterable[Shown]) -> Iterator[str]:
    """Tables of an experiment, without tables whose values are all in earlier ones."""
    seen: set[PrintedCell] = set()
    for table, group in groupby(shown, key=lambda one: one.table):
        cells = {one.cell for one in group}
        if not cells <= seen:
            yield table
        seen |= cells


def _figure_lines(source: str, bench: Bench) -> Iterator[str]:
    figures = [row for row in printed_rows("figures") if row["source"] == source]
    if not figures:
        return
    experiments = {figure: name for name, experiment in bench.experiments.items() for figure in experiment.figures}
    yield from ("| figure | experiment: figure |", "| --- | --- |")
    for row in figures:
        target = row["target"]
        made = f"`{experiments[target]}`: {target}" if target in experiments else "none"
        yield f"| {row['figure']} | {made} |"
    yield ""


def _compared_with(column: Column, cell: Cell) -> tuple[str, ...]:
    if isinstance(cell, Comparison):
        return tuple(dict.fromkeys(cell.runs.method))
    return () if column.group == PUBLISHED_ONLY else ("counted",)


def _method(cell: PrintedCell) -> str:
    return cell.printed["method"] or cell.printed["metric"]


def _indexed() -> list[str]:
    """Published tables of the papers."""
    return [row["file"].removesuffix(".csv") for row in printed_rows("index")]


def _source(row: Mapping[str, str]) -> str:
    return row["source"]

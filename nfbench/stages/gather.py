"""From run records to one table of results and the ledger."""

from collections.abc import Sequence
from pathlib import Path

from nfbench.core.errors import NfbenchError
from nfbench.core.files import remove_stale, shield, write_text
from nfbench.plan.cells import Cell
from nfbench.plan.experiment_specs import AggregateSpec, Skipped
from nfbench.plan.made import write_made
from nfbench.plan.origin import digest_of, expected_runs
from nfbench.plan.plan import Plan
from nfbench.results.aggregate import aggregate, write_results
from nfbench.results.ledger import Stock, describe_holes, take_stock

__all__ = ["aggregate_results", "stock_of", "write_gathered"]


def aggregate_results(spec: AggregateSpec) -> None:
    """Gathers the run records of an experiment; the ledger accounts for every expected cell."""
    expected = expected_runs(spec.cells, spec.origin)
    write_gathered(spec, take_stock(expected, spec.paths, skipped(spec.skipped, spec.cells)))


def write_gathered(spec: AggregateSpec, stock: Stock, *, allow_holes: bool = False) -> None:
    """Writes the ledger, and the results unless cells are missing and ``allow_holes`` is false.

    Raises:
        NfbenchError: the experiment has no runs, or some cells are not done; the message names the first ones and says
            what to do.
    """
    experiment, path = spec.experiment, spec.paths.experiment(spec.experiment, "ledger.csv")
    if not stock.expected:
        raise NfbenchError(f"experiment '{experiment}' has no runs to gather; its tables do not need any")
    remove_stale(path.parent)
    write_text(path, stock.table().map(shield).to_csv(index=False))
    if stock.holes and not (allow_holes and stock.records):
        invalid = " ".join(
            str(spec.paths.run_record(hole.cell)) for hole in stock.holes if hole.reason.startswith("invalid record")
        )
        remove = f"remove {invalid} and " if invalid else ""
        raise NfbenchError(
            f"experiment '{experiment}': {len(stock.holes)} of {stock.expected} cells are not done: "
            f"{describe_holes(stock.holes)}; {path} lists all; to finish them, {remove}run 'snakemake --cores all "
            f"{experiment}'; to continue without them, run 'nfbench aggregate_results {experiment} --allow-holes'"
        )
    results = Path(spec.results)
    write_results(results, aggregate(stock.records.values()), digest_of(spec), stock.holes)
    write_made(spec, [results, path])


def stock_of(plan: Plan, experiment: str) -> Stock:
    """Takes stock of all cells of an experiment, including skipped ones, by records and logs."""
    cells = plan.cells(experiment)
    jobs = {cell: plan.evaluate(cell) for cell in cells}
    expected = {cell: digest_of(job.spec) for cell, job in jobs.items()}
    return take_stock(expected, plan.paths, skipped(plan.skipped(experiment), cells), jobs)


def skipped(blocks: Sequence[Skipped], expected: Sequence[Cell]) -> dict[Cell, str]:
    """Returns the cells that are omitted on purpose, with reasons."""
    known = set(expected)
    return {cell: one.reason for one in blocks for cell in one.block.cells if cell not in known}

"""Share results: bundle an experiment, merge bundles."""

from pathlib import Path
from typing import Annotated

import typer

from nfbench.cli.load import Experiment, Overrides, load_experiment
from nfbench.cli.show import print_results

__all__ = ["bundle", "merge"]


def bundle(
    experiment: Experiment = None,
    overrides: Overrides = "{}",
    output: Annotated[
        Path | None, typer.Option(help="File to write, *.nfbundle. Default: named after the experiment.")
    ] = None,
) -> None:
    """Write the results of an experiment to one file for 'nfbench merge': records, scores and ledger.

    Images, models and maps are not included. Unfinished runs are listed as missing.
    """
    from nfbench.sharing.bundle import SUFFIX, write_bundle
    from nfbench.stages import gather

    plan, name = load_experiment(experiment, overrides)
    tables = [plan.table(name, table).spec for table, of in plan.bench.experiment(name).tables.items() if of.from_runs]
    stock = gather.stock_of(plan, name)
    path = output or Path(f"{name}{SUFFIX}")
    absolute = write_bundle(plan.report(name).spec, tables, stock, path)
    size = path.stat().st_size / 1e6
    typer.echo(f"{path}: {len(stock.records)} of {stock.expected} runs, {size:.1f} MB; 'nfbench merge' reads it")
    if absolute:
        typer.echo(f"note: it names images by absolute paths such as {absolute[0]}")


def merge(
    bundles: Annotated[list[Path], typer.Argument(help="Bundles of one experiment.")],
    output: Annotated[Path, typer.Option(help="Folder to write; an earlier merged set is replaced.")] = Path("merged"),
    tolerance: Annotated[
        float, typer.Option(min=0, help="Largest difference of a metric at which the same run in two bundles agrees.")
    ] = 0.001,
) -> None:
    """Merge bundles of several machines or people into tables and a report, unless they contradict one another.

    If several bundles have the same run, the first bundle counts, and the others must agree.
    """
    from nfbench.sharing.merge import merge as write
    from nfbench.stages.tables import table_of

    merged = write(bundles, output, tolerance)
    print_results(merged.title, [(spec.table, table_of(spec)) for spec in merged.tables])
    for name, source in merged.record.bundles.items():
        typer.echo(f"{name}: {source.runs} runs, {', '.join(source.machines)}, commit {', '.join(source.commits)}")
    if merged.record.repeated:
        largest = max(max(others.values()) for others in merged.record.repeated.values())
        within = f"within {largest:.2g}" if largest else "exactly"
        typer.echo(f"{len(merged.record.repeated)} runs in several bundles agree {within}")
    if merged.holes:
        typer.echo(f"{len(merged.holes)} runs are missing in all bundles")
    typer.echo(f"tables: {merged.report.parent.parent.absolute()}/tables/{merged.record.experiment}/")
    typer.echo(f"report: {merged.report.absolute()}")

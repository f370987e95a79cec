"""What is made from the runs of an experiment: results, tables, figures, report, tracking; and a look at the tables.

The workflow gives ``--spec``; people give the experiment's name, and get what is there, holes and all.
"""

import textwrap
from typing import Annotated

import typer

from nfbench.cli.load import Experiment, Overrides, load_experiment
from nfbench.plan.experiment_specs import AggregateSpec, FigureSpec, ReportSpec, TableSpec, TrackSpec

__all__ = ["aggregate_results", "build_figure", "build_report", "build_table", "report", "show", "track_runs"]

_OF_SPEC = typer.Option(help="What to do, from the workflow: JSON, or a file with JSON.")
Spec = Annotated[str | None, _OF_SPEC]
GivenSpec = Annotated[str, _OF_SPEC]
Name = Annotated[str | None, typer.Argument(help="Name of the table or figure.")]
Pictures = Annotated[int, typer.Option(min=0, help="Show at most this many test images of each category.")]


def aggregate_results(
    experiment: Experiment = None,
    overrides: Overrides = "{}",
    allow_holes: Annotated[bool, typer.Option(help="Gather what is there; tables then name what is not.")] = False,
    spec: Spec = None,
) -> None:
    """Gather the run records of an experiment; every expected cell is accounted for in the ledger."""
    from nfbench.stages import gather

    if spec:
        gather.aggregate_results(AggregateSpec.parse(spec))
        return
    plan, name = load_experiment(experiment, overrides)
    gather.write_gathered(plan.aggregate(name).spec, gather.stock_of(plan, name), allow_holes=allow_holes)


def build_table(
    experiment: Experiment = None, name: Name = None, overrides: Overrides = "{}", spec: Spec = None
) -> None:
    """Write a table of an experiment as LaTeX, HTML and CSV; without a name, all of them."""
    from nfbench.stages import tables

    if spec:
        tables.build_table(TableSpec.parse(spec))
        return
    plan, experiment = load_experiment(experiment, overrides)
    for one in [name] if name else plan.bench.experiment(experiment).tables:
        tables.build_table(plan.table(experiment, one).spec)


def build_figure(
    experiment: Experiment = None, name: Name = None, overrides: Overrides = "{}", spec: Spec = None
) -> None:
    """Draw a figure of an experiment as PDF and PNG; without a name, all of them."""
    from nfbench.stages import figures

    if spec:
        figures.build_figure(FigureSpec.parse(spec))
        return
    plan, experiment = load_experiment(experiment, overrides)
    for one in [name] if name else plan.bench.experiment(experiment).figures:
        figures.build_figure(plan.figure(experiment, one).spec)


def build_report(spec: GivenSpec) -> None:
    """Write the report of an experiment whose runs are done."""
    from nfbench.stages import report as stage

    stage.build_report(ReportSpec.parse(spec))


def report(experiment: Experiment = None, overrides: Overrides = "{}", pictures: Pictures = 24) -> None:
    """Write the report of an experiment as it stands, finished or not, and say where it is."""
    from nfbench.stages import gather
    from nfbench.stages import report as stage

    plan, name = load_experiment(experiment, overrides)
    path = stage.write_report(plan.report(name).spec, gather.stock_of(plan, name), pictures)
    typer.echo(f"report: {path.absolute()}")


def track_runs(
    experiment: Experiment = None,
    overrides: Overrides = "{}",
    name: Annotated[str | None, typer.Option(help="Name in MLflow. Default: the experiment's.")] = None,
    spec: Spec = None,
) -> None:
    """Bring the runs of an experiment, its tables, figures and studies into MLflow, as they stand.

    They go to a database below results_root, or to the server that MLFLOW_TRACKING_URI names. Repeated, it changes
    nothing.
    """
    from nfbench.stages import gather, track

    if spec:
        typer.echo(track.track_runs(TrackSpec.parse(spec)))
        return
    plan, experiment = load_experiment(experiment, overrides)
    asked = plan.track(experiment).spec
    stock = gather.stock_of(plan, experiment)
    typer.echo(track.write_tracked(asked.model_copy(update={"name": name} if name else {}), stock))


def show(experiment: Experiment = None, overrides: Overrides = "{}") -> None:
    """Print the tables of an experiment as they were built, and say where tables, figures and report are."""
    from nfbench.plan.made import built_table
    from nfbench.stages.tables import table_of
    from nfbench.tables._render import to_text

    plan, name = load_experiment(experiment, overrides)
    config, paths = plan.bench.experiment(name), plan.paths
    for table_name in config.tables:
        table = table_of(built_table(paths, name, table_name) or plan.table(name, table_name).spec)
        typer.echo(f"\n{textwrap.fill(table.caption, 100)}\n\n{to_text(table)}")
    typer.echo("")
    for kind, path in (("tables", paths.table(name, "*", "*")), ("figures", paths.figure(name, "*", "*"))):
        if getattr(config, kind):
            typer.echo(f"{kind}: {path.parent.absolute()}/")
    for page in (paths.report(name), paths.root / "report.html"):
        if page.is_file():
            typer.echo(f"report: {page.absolute()}")

"""Outputs of an experiment: results, tables, figures, report, tracking.

The workflow passes ``--spec``. People pass the name of an experiment and get the runs that are done so far.
"""

from typing import Annotated

import typer

from nfbench.cli.load import Experiment, Overrides, load_experiment
from nfbench.plan.experiment_specs import AggregateSpec, FigureSpec, ReportSpec, TableSpec, TrackSpec

__all__ = ["aggregate_results", "build_figure", "build_report", "build_table", "report", "track_runs"]

_OF_SPEC = typer.Option(help="Spec of the job, from the workflow: JSON, or a file with JSON.")
Spec = Annotated[str | None, _OF_SPEC]
GivenSpec = Annotated[str, _OF_SPEC]
Name = Annotated[str | None, typer.Argument(help="Name of the table or figure.")]
Pictures = Annotated[int, typer.Option(min=0, help="Show at most this many test images of each category.")]


def aggregate_results(
    experiment: Experiment = None,
    overrides: Overrides = "{}",
    allow_holes: Annotated[bool, typer.Option(help="Collect finished runs; tables mark missing ones.")] = False,
    spec: Spec = None,
) -> None:
    """Collect the run records of an experiment; the ledger lists every expected cell."""
    from nfbench.stages import gather

    if spec:
        gather.aggregate_results(AggregateSpec.parse(spec))
        return
    plan, name = load_experiment(experiment, overrides)
    gather.write_gathered(plan.aggregate(name).spec, gather.stock_of(plan, name), allow_holes=allow_holes)


def build_table(
    experiment: Experiment = None, name: Name = None, overrides: Overrides = "{}", spec: Spec = None
) -> None:
    """Write a table of an experiment as LaTeX, HTML and CSV. Without a name: all tables."""
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
    """Draw a figure of an experiment as PDF and PNG. Without a name: all figures."""
    from nfbench.stages import figures

    if spec:
        figures.build_figure(FigureSpec.parse(spec))
        return
    plan, experiment = load_experiment(experiment, overrides)
    for one in [name] if name else plan.bench.experiment(experiment).figures:
        figures.build_figure(plan.figure(experiment, one).spec)


def build_report(spec: GivenSpec) -> None:
    """Write the report of a finished experiment."""
    from nfbench.stages import report as stage

    stage.build_report(ReportSpec.parse(spec))


def report(experiment: Experiment = None, overrides: Overrides = "{}", pictures: Pictures = 24) -> None:
    """Write the report of an experiment, finished or not, and print its path."""
    from nfbench.stages import gather
    from nfbench.stages import report as stage

    plan, name = load_experiment(experiment, overrides)
    path = stage.write_report(plan.report(name).spec, gather.stock_of(plan, name), pictures)
    typer.echo(f"report: {path.absolute()}")


def track_runs(
    experiment: Experiment = None,
    overrides: Overrides = "{}",
    name: Annotated[str | None, typer.Option(help="Name in MLflow. Default: the name of the experiment.")] = None,
    spec: Spec = None,
) -> None:
    """Write the runs, tables, figures and studies of an experiment to MLflow.

    They go to a database in results_root, or to the server that MLFLOW_TRACKING_URI names. Running the command again
    updates them.
    """
    from nfbench.stages import gather, track

    if spec:
        typer.echo(track.track_runs(TrackSpec.parse(spec)))
        return
    plan, experiment = load_experiment(experiment, overrides)
    asked = plan.track(experiment).spec
    stock = gather.stock_of(plan, experiment)
    typer.echo(track.write_tracked(asked.model_copy(update={"name": name} if name else {}), stock))

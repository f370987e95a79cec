"""Validate the configuration and all experiments without running jobs."""

import typer

from nfbench.cli.load import Experiment, Overrides, load_experiment
from nfbench.core.errors import NfbenchError

__all__ = ["check"]


def check(experiment: Experiment = None, overrides: Overrides = "{}") -> None:
    """Check config.yaml and all experiments; print the number of cells of each for the categories on disk."""
    plan, asked = load_experiment(experiment, overrides)
    experiments = plan.bench.experiments
    plan.bench.experiment(asked)
    typer.echo(f"{len(experiments)} experiment{'s are' if len(experiments) != 1 else ' is'} valid")
    for name in [experiment] if experiment else experiments:
        try:
            cells = plan.cells(name)
        except NfbenchError as error:
            if experiment:
                raise
            typer.echo(f"{name}: no cells now, {str(error).partition(';')[0]}")
        else:
            typer.echo(f"{name}: {len(cells)} cell{'s' if len(cells) != 1 else ''}")

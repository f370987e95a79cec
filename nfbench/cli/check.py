"""Whether the configuration and all experiments are sound, without a job: names, settings of runs, published values."""

from typing import Annotated

import typer

from nfbench.cli.build import Overrides, available_categories, load
from nfbench.core.errors import NfbenchError
from nfbench.plan.cells import expand

__all__ = ["check"]


def check(
    experiment: Annotated[str | None, typer.Argument(help="Experiment, by default all.")] = None,
    overrides: Overrides = "{}",
) -> None:
    """Check config.yaml and all experiments; say how many cells each has with the categories on disk."""
    bench = load(overrides)
    bench.experiment(experiment or bench.config.experiment)
    count = len(bench.experiments)
    typer.echo(f"{count} experiment{'s are' if count != 1 else ' is'} sound")
    for name in [experiment] if experiment else bench.experiments:
        try:
            cells = expand(bench, name, lambda dataset: available_categories(bench, dataset))
        except NfbenchError as error:
            if experiment:
                raise
            typer.echo(f"{name}: no cells now, {str(error).partition(';')[0]}")
        else:
            typer.echo(f"{name}: {len(cells)} cell{'s' if len(cells) != 1 else ''}")

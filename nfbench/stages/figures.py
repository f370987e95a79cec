"""From run records to figures."""

from nfbench.core.errors import NfbenchError, faults_of
from nfbench.figures._base import NothingToDraw, note_figure, read_runs, write_figure
from nfbench.plan.experiment_specs import FigureSpec
from nfbench.plan.made import write_made
from nfbench.plan.origin import expected_runs

__all__ = ["build_figure"]


def build_figure(spec: FigureSpec) -> None:
    """Draws a figure as PDF and PNG; a line of text if test images are missing and nothing can be drawn."""
    setting = spec.figure.setting
    expected = {
        cell: digest
        for cell, digest in expected_runs(spec.cells, spec.origin).items()
        if setting in (None, cell.setting) and (spec.figure.of_conditions or not cell.condition)
    }
    if not expected:
        raise NfbenchError(
            f"figure '{spec.name}': experiment '{spec.experiment}' has no runs in the setting '{setting}'"
        )
    runs = read_runs(expected, spec.paths)
    with faults_of(f"figure '{spec.name}' of {spec.figure.module}"):
        try:
            figure = spec.figure.draw(runs)
        except NothingToDraw as error:
            lacking = {run.record.data.lacking: None for run in runs}
            if "" in lacking:
                raise
            figure = note_figure(f"Nothing to draw ({', '.join(lacking)}): {error}")
        if figure is None:
            raise TypeError("'draw' must return a figure, got None")
    files = [spec.paths.figure(spec.experiment, spec.name, ending) for ending in ("png", "pdf")]
    write_figure(figure, files)
    write_made(spec, files)

"""Log-likelihoods of positions before and after training: are anomalies less likely than normal ones?"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

from nfbench.config.tables import FigureConfig
from nfbench.figures._base import (
    COLORS,
    GROUPS,
    DrawnRun,
    NothingToDraw,
    bands_of,
    legend_above,
    level_name,
    new_figure,
    of_first_seed,
)
from nfbench.results.files import Bin, read_rows

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

__all__ = ["FIGURE", "LikelihoodsFigure"]

_MOMENTS = ("before", "after")
_ALPHA = 0.45


class LikelihoodsFigure(FigureConfig):
    """Histograms of log-likelihoods before and after training."""

    kind: Literal["likelihoods"] = "likelihoods"

    def draw(self, runs: Sequence[DrawnRun]) -> Figure:
        """Draw two rows per category and method, before and after training, one column per level, for the first seed.

        Levels are fine to coarse. Each panel has histograms of position log-likelihoods in nats per dimension, from
        ``likelihoods.csv``. Panels have separate axes, because training changes likelihoods much more than they differ
        between groups.

        Methods without likelihoods of positions are left out.

        Raises:
            NothingToDraw: no run of the first seed has such likelihoods.
        """
        from matplotlib.patches import Patch

        histograms = {run.folder: rows for run in of_first_seed(runs) if (rows := read_rows(Bin, run.folder))}
        shown = [run for run in of_first_seed(runs) if run.folder in histograms]
        if not shown:
            raise NothingToDraw(
                "a figure of kind 'likelihoods' needs a method that writes likelihoods.csv, with likelihoods of "
                "positions and support for anomalies: sanflow, nfad or bgad"
            )
        bands = bands_of(shown)
        levels = sorted({row.level for rows in histograms.values() for row in rows})
        size = (max(3.2 * len(levels), 6.4), 3.8 * len(bands))
        figure = new_figure(*size)
        axes = figure.subplots(2 * len(bands), len(levels), squeeze=False)
        for number, (_, run) in enumerate(bands):
            pair = axes[2 * number : 2 * number + 2]
            _draw_run(pair, histograms[run.folder], levels)
        drawn = {row.group for rows in histograms.values() for row in rows}
        handles = {GROUPS[group]: Patch(color=COLORS[group], alpha=_ALPHA) for group in GROUPS if group in drawn}
        titles = {axis: title for axis, (title, _) in zip(axes[::2, 0], bands, strict=True)}
        legend_above(figure, ([*handles.values()], [*handles]), titles)
        return figure


def _draw_run(axes: NDArray[np.object_], rows: Sequence[Bin], levels: Sequence[int]) -> None:
    """Draw the panels of one run: before training above, after training below."""
    count = 1 + max(row.level for row in rows)
    for row, moment in zip(axes, _MOMENTS, strict=True):
        for axis, level in zip(row, levels, strict=True):
            chosen = [r for r in rows if (r.moment, r.level) == (moment, level)]
            if not chosen:
                axis.set_axis_off()
                continue
            _draw(axis, chosen)
            axis.text(0.03, 0.95, level_name(level, count), transform=axis.transAxes, va="top", fontsize=7)
            axis.set_xlabel("log-likelihood in nats per dimension" if moment == _MOMENTS[-1] else "", fontsize=8)
        row[0].set_ylabel(f"{moment} training\nshare of positions", fontsize=8)


def _draw(axis: Axes, rows: Sequence[Bin]) -> None:
    for group in GROUPS:
        bins = {(row.left, row.right): row.share for row in rows if row.group == group}
        if not bins:
            continue
        edges = sorted({edge for ends in bins for edge in ends})
        shares = [bins.get(ends, 0.0) for ends in pairwise(edges)]  # missing bins are empty
        axis.stairs(shares, edges, fill=True, color=COLORS[group], alpha=_ALPHA)
        axis.stairs(shares, edges, color=COLORS[group], lw=0.8)
    axis.margins(x=0.02)
    axis.set_ylim(0, 1.2 * axis.dataLim.ymax)  # room for the name of the level
    axis.tick_params(labelsize=7)


FIGURE = LikelihoodsFigure

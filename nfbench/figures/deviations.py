"""Standard deviations of feature dimensions before and after a method transforms them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from nfbench.config.tables import FigureConfig
from nfbench.figures._base import COLORS, DrawnRun, bands_of, legend_above, level_name, new_figure
from nfbench.figures._representations import MEMBERS, WHAT, read_shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from nfbench.scoring.representations import Representation

__all__ = ["FIGURE", "DeviationsFigure"]

_COLORS = (COLORS["neutral"], COLORS["normal"])
_ALPHA = 0.45
_BINS = 60
_LARGEST = 0.995


class DeviationsFigure(FigureConfig):
    """Histograms of the standard deviations of feature dimensions before and after a method transforms them."""

    needs, drawn = MEMBERS, WHAT

    kind: Literal["deviations"] = "deviations"

    def draw(self, runs: Sequence[DrawnRun]) -> Figure:
        """Draw one row per category and method and one column per level, fine to coarse, for the first seed.

        A panel has histograms of the standard deviations of all dimensions over positions of normal training images, in
        the first and the last representation, such as before and after SimpleNet's adaptor. Dimensions above the 99.5 %
        quantile are counted in the last bin. Methods without representations are left out.

        Raises:
            NfbenchError: no run of the first seed has representations.
        """
        from matplotlib.patches import Patch

        shown = read_shown("deviations", runs)
        bands = bands_of([run for run, _ in shown.values()])
        count = max(one.level + 1 for _, found in shown.values() for one in found)
        figure = new_figure(max(3.2 * count, 6.4), 2.3 * len(bands) + 0.3)
        axes = figure.subplots(len(bands), count, squeeze=False)
        for row, (_, run) in zip(axes, bands, strict=True):
            found = shown[run.folder][1]
            levels = 1 + max(one.level for one in found)
            for level, axis in enumerate(row):
                chosen = [one for one in found if one.level == level]
                _draw(axis, [chosen[0], chosen[-1]]) if chosen else axis.set_axis_off()
                name = level_name(level, levels) if levels > 1 else ""
                axis.text(0.97, 0.95, name, transform=axis.transAxes, ha="right", va="top", fontsize=7)
            row[0].set_ylabel("number of dimensions", fontsize=8)
        names = dict.fromkeys((found[0].name, found[-1].name) for _, found in shown.values())
        handles = {
            name: Patch(color=color, alpha=_ALPHA) for pair in names for name, color in zip(pair, _COLORS, strict=True)
        }
        titles = {axis: title for axis, (title, _) in zip(axes[:, 0], bands, strict=True)}
        legend_above(figure, ([*handles.values()], [*handles]), titles)
        return figure


def _draw(axis: Axes, pair: Sequence[Representation]) -> None:
    import numpy as np

    largest = max(float(np.quantile(one.deviations, _LARGEST)) for one in pair)
    edges = np.linspace(0, max(largest, 1e-12), _BINS + 1)
    for one, color in zip(pair, _COLORS, strict=True):
        counts, _ = np.histogram(one.deviations.astype(float).clip(max=edges[-1]), edges)
        axis.stairs(counts, edges, fill=True, color=color, alpha=_ALPHA)
        axis.stairs(counts, edges, color=color, lw=0.8)
    axis.set_xlim(edges[0], edges[-1])
    axis.set_ylim(bottom=0)
    axis.set_xlabel("standard deviation of a dimension", fontsize=8)
    axis.tick_params(labelsize=7)


FIGURE = DeviationsFigure

"""Predicted variances next to the image, as in SANFlow: regions that vary among normal images may deviate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from nfbench.config.tables import FigureConfig
from nfbench.datasets._manifest import Entry
from nfbench.figures._base import DrawnRun, NothingToDraw, columns_of, new_figure, of_first_seed
from nfbench.figures._examples import draw_example, examples_of

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["FIGURE", "VariancesFigure"]

_CELL, _WITH_BAR, _LABEL = 1.5, 1.8, 0.9
_OUTER = 0.005


class VariancesFigure(FigureConfig):
    """Examples with the variances that a method predicts for their positions."""

    needs = ("predicted_variances",)
    drawn = "predicted variances"

    kind: Literal["variances"] = "variances"

    def draw(self, runs: Sequence[DrawnRun]) -> Figure:
        """Draw one row per example image and one column per method that predicts variances, for the first seed.

        Colours are logarithmic, with one scale per category and method that cuts the outermost 0.5 % of its examples'
        pixels. The examples are those of the category's first run.

        Raises:
            NothingToDraw: no run of the first seed has predicted variances.
        """
        from nfbench.results.examples import read_examples

        everything = {run.folder: read_examples(run.folder) for run in of_first_seed(runs)}
        shown = [run for run in of_first_seed(runs) if "variances" in everything[run.folder].maps]
        if not shown:
            raise NothingToDraw("a figure of kind 'variances' needs a run that predicts variances, but there is none")
        examples, columns = [*examples_of(shown, everything)], columns_of(shown)
        widths = [_CELL, _CELL, *[_WITH_BAR] * len(columns)]
        figure = new_figure(_LABEL + sum(widths), _CELL * len(examples) + 0.4, layout="constrained")
        axes = figure.subplots(len(examples), len(widths), squeeze=False, width_ratios=widths)
        for row, example in zip(axes, examples, strict=True):
            draw_example(row, example.entry, example.label)
            for column, _, kept, number in example.kept:
                _draw(row[2 + column], kept["variances"], number, example.entry)
        titles = ["image", "ground truth", *(f"{title}\npredicted variance" for title in columns.values())]
        for axis, title in zip(axes[0], titles, strict=True):
            axis.set_title(title, fontsize=7)
        return figure


def _draw(axis: Axes, variances: np.ndarray, number: int, entry: Entry) -> None:
    """Draw one of the variances ``(N, H, W)`` of a run over the extent of its image."""
    import numpy as np
    from matplotlib.colors import LogNorm

    low, high = np.quantile(variances, (_OUTER, 1 - _OUTER))
    ticks = np.geomspace(low, max(high, 1.01 * low), 5)
    extent = (-0.5, entry.width - 0.5, entry.height - 0.5, -0.5)
    shown = axis.imshow(variances[number], cmap="viridis", norm=LogNorm(ticks[0], ticks[-1]), extent=extent)
    bar = axis.figure.colorbar(shown, ax=axis, fraction=0.046, pad=0.03)
    bar.set_ticks(ticks.tolist(), labels=[f"{tick:.2g}" for tick in ticks])
    bar.ax.minorticks_off()
    bar.ax.tick_params(labelsize=6)


FIGURE = VariancesFigure

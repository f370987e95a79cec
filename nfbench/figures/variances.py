"""Predicted variances beside the image, which motivate SANFlow: what varies much among normal images may differ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from nfbench.config.tables import FigureConfig
from nfbench.core.errors import NfbenchError
from nfbench.datasets._manifest import Entry
from nfbench.figures._base import (
    DrawnRun,
    by_category,
    columns_of,
    draw_example,
    find_run,
    new_figure,
    of_first_seed,
)
from nfbench.results.record import tested_images

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
        """One row per example image, a column per method that predicts variances; first seed.

        Colours are logarithmic, with one scale per category and method, which ends at the outermost 0.5 % of the pixels
        of its examples. The examples are those of the category's first run.

        Raises:
            NfbenchError: no run of the first seed has predicted variances.
        """
        from nfbench.results.examples import read_examples

        everything = {run.folder: read_examples(run.folder) for run in of_first_seed(runs)}
        shown = [run for run in of_first_seed(runs) if "variances" in everything[run.folder].maps]
        if not shown:
            raise NfbenchError("a figure of kind 'variances' needs a run that predicts variances, and there is none")
        grouped, columns = by_category(shown), columns_of(shown)
        n_rows = sum(len(everything[of_category[0].folder].images) for of_category in grouped.values())
        widths = [_CELL, _CELL, *[_WITH_BAR] * len(columns)]
        figure = new_figure(_LABEL + sum(widths), _CELL * n_rows + 0.4, layout="constrained")
        axes = figure.subplots(n_rows, len(widths), squeeze=False, width_ratios=widths)
        rows = iter(axes)
        for (dataset, category), of_category in grouped.items():
            entries = tested_images(of_category[0].record)
            for index in everything[of_category[0].folder].images:
                row = next(rows)
                draw_example(row, entries[index], f"{dataset}\n{category}\n{entries[index].defect}")
                for axis, column in zip(row[2:], columns, strict=True):
                    run = find_run(of_category, column)
                    number = everything[run.folder].row(index) if run else None
                    if run is not None and number is not None:
                        _draw(axis, everything[run.folder].maps["variances"], number, entries[index])
        titles = ["image", "ground truth", *(f"{title}\npredicted variance" for title in columns.values())]
        for axis, title in zip(axes[0], titles, strict=True):
            axis.set_title(title, fontsize=7)
        return figure


def _draw(axis: Axes, variances: np.ndarray, number: int, entry: Entry) -> None:
    """Draws one of the variances ``(N, H, W)`` of a run, over the extent of its image."""
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

"""Q-Q plots of latents: do normal images follow the expected chi-square distribution?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from nfbench.config.tables import FigureConfig
from nfbench.core.errors import NfbenchError
from nfbench.figures._base import COLORS, Column, DrawnRun, Legend, columns_of, draw_grid, find_run, of_first_seed
from nfbench.results.files import Quantile, read_rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["FIGURE", "CalibrationFigure"]

_TICKS = (0.01, 0.1, 0.2, 0.5, 0.7, 1, 1.5, 2, 5, 10, 100, 1000)
_STYLES = {"training": "--", "test": "-"}


class CalibrationFigure(FigureConfig):
    """Quantiles of the latents of normal images against those of the chi-square distribution."""

    kind: Literal["calibration"] = "calibration"

    def draw(self, runs: Sequence[DrawnRun]) -> Figure:
        """Draw one row per category and one column per method, for the first seed.

        Quantiles of ``sum_c z_c^2 / C`` over the positions of normal images, against those of the chi-square
        distribution with C degrees of freedom, by scale. On the diagonal, the model is right; above it, images vary
        more than the model expects.
        """
        shown = [run for run in of_first_seed(runs) if read_rows(Quantile, run.folder)]
        if not shown:
            raise NfbenchError("a figure of kind 'calibration' needs a method with standard normal latents")
        return draw_grid(
            shown, columns_of(shown), _draw, (3.2, 2.8), ("expected of chi-square, per channel", "observed")
        )


def _draw(axis: Axes, runs: Sequence[DrawnRun], column: Column) -> Legend | None:
    from matplotlib.ticker import FixedLocator, NullLocator

    run = find_run(runs, column)
    if run is None:
        return None
    rows = read_rows(Quantile, run.folder)
    scales = sorted({(row.scale, row.channels) for row in rows})
    for number, (scale, channels) in enumerate(scales):
        for images, style in _STYLES.items():
            chosen = [row for row in rows if (row.scale, row.images) == (scale, images)]
            expected, observed = [row.expected for row in chosen], [row.observed for row in chosen]
            label = f"{images} images, scale {scale + 1}"
            axis.plot(expected, observed, style, color=f"C{number}", lw=1.2, marker=".", ms=3, label=label)
        axis.text(0.03, 0.95 - 0.08 * number, f"C = {channels}", color=f"C{number}", fontsize=7, va="top",
                  transform=axis.transAxes)  # fmt: skip
    ends = [min(row.expected for row in rows), max(row.expected for row in rows)]
    axis.plot(ends, ends, color=COLORS["neutral"], lw=0.8)
    for side, set_scale in ((axis.xaxis, axis.set_xscale), (axis.yaxis, axis.set_yscale)):
        set_scale("log")
        side.set_major_locator(FixedLocator(_TICKS))
        side.set_major_formatter("{x:g}")
        side.set_minor_locator(NullLocator())
    axis.tick_params(labelsize=7)
    return axis.get_legend_handles_labels()


FIGURE = CalibrationFigure

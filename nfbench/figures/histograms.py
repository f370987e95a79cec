"""Histograms of image scores: normal against anomalous test images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from nfbench.config.tables import FigureConfig
from nfbench.figures._base import COLORS, Column, DrawnRun, Legend, columns_of, draw_grid, find_run, of_first_seed
from nfbench.metrics import find_metric
from nfbench.results.files import ImageScore, read_rows
from nfbench.results.record import lacking_images

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["FIGURE", "HistogramsFigure"]

_BINS = 24


class HistogramsFigure(FigureConfig):
    """Histograms of image scores, normal against anomalous test images."""

    kind: Literal["histograms"] = "histograms"

    def draw(self, runs: Sequence[DrawnRun]) -> Figure:
        """Draw the method's own image score: one row per category, one column per method and backbone, first seed."""
        shown = of_first_seed(runs)
        return draw_grid(shown, columns_of(shown), _draw, (3.4, 2.1), ("image score", "share of images"))


def _draw(axis: Axes, runs: Sequence[DrawnRun], column: Column) -> Legend | None:
    import numpy as np

    run = find_run(runs, column)
    if run is None:
        return None
    rows = read_rows(ImageScore, run.folder)
    n_anomalous, named = sum(row.label for row in rows), find_metric("image_auroc")
    lacking = lacking_images(len(rows) - n_anomalous, n_anomalous)
    if not rows:
        axis.text(0.5, 0.5, f"{run.cell.category}: {lacking}", transform=axis.transAxes, ha="center", fontsize=8)
        return None
    scores = np.array([row.paper for row in rows])
    labels = np.array([row.label for row in rows])
    bins = np.linspace(scores.min(), scores.max() if scores.max() > scores.min() else scores.min() + 1, _BINS + 1)
    for label, name in enumerate(["normal", "anomalous"]):
        values = scores[labels == label]
        weights = np.full(len(values), 1 / max(len(values), 1))
        axis.hist(values, bins.tolist(), weights=weights, color=COLORS[name], alpha=0.6, label=name)
    axis.text(
        0.97,
        0.95,
        lacking or f"AUROC {named.metric.unit.factor * run.last(named.name):.1f}",
        transform=axis.transAxes,
        ha="right",
        va="top",
        fontsize=8,
    )
    axis.tick_params(labelsize=7)
    return axis.get_legend_handles_labels()


FIGURE = HistogramsFigure

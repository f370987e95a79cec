"""Mean IoU against the threshold, as in U-Flow's Figure 7."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from nfbench.config.tables import FigureConfig
from nfbench.figures._base import (
    Column,
    DrawnRun,
    Legend,
    NothingToDraw,
    columns_of,
    draw_grid,
    find_run,
    of_first_seed,
)
from nfbench.metrics import ThresholdSource
from nfbench.results.files import MeanIou, read_rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["FIGURE", "ThresholdsFigure"]

_COLORS = {"all": "#1f77b4", "anomalous": "#d62728", "pooled": "#2ca02c"}
_LABELS = {"all": "all images", "anomalous": "anomalous images", "pooled": "pixels pooled"}
_MAPS = {
    "score": ("threshold of the anomaly map", "miou_oracle", "miou_fair"),
    "nfa": ("threshold of \N{MINUS SIGN}log10 NFA", "miou_nfa_oracle", "miou_nfa"),
}

_IMAGES: dict[ThresholdSource, str] = {
    "validation": "validation images",
    "held out": "held-out normal images",
    "cross-fitted": "cross-fitted normal images",
    "training": "training images",
}


class ThresholdsFigure(FigureConfig):
    """Mean IoU by threshold."""

    kind: Literal["thresholds"] = "thresholds"

    def draw(self, runs: Sequence[DrawnRun]) -> Figure:
        """Draw one row per category, with the curves of each method's anomaly map and log-NFA map, for the first seed.

        Markers show the best threshold over all images and the one chosen without anomalies: NFA < 1, or one false
            positive pixel per normal image; the axis label names these images.
        """
        shown = [run for run in of_first_seed(runs) if read_rows(MeanIou, run.folder)]
        if not shown:
            raise NothingToDraw("a figure of kind 'thresholds' needs images with masks, but there are none")
        columns = {(column, name): title for column, title in columns_of(shown).items() for name in _MAPS}
        return draw_grid(shown, columns, _draw, (2.9, 2.2), ("", "mean IoU"), sharey=True)


def _draw(axis: Axes, runs: Sequence[DrawnRun], panel: tuple[Column, str]) -> Legend | None:
    import numpy as np

    column, name = panel
    label, optimum, chosen = _MAPS[name]
    run = find_run(runs, column)
    rows = [row for row in read_rows(MeanIou, run.folder) if row.map == name] if run else []
    if run is None or not rows:
        return None
    x = np.array([row.threshold for row in rows])
    for aggregation, color in _COLORS.items():
        axis.plot(x, [getattr(row, aggregation) for row in rows], color=color, lw=1.2, label=_LABELS[aggregation])
    thresholds = run.record.segmentation.thresholds
    sign = -1 if name == "nfa" else 1
    best = sign * thresholds[optimum] if optimum in thresholds else x[-1]  # detecting nothing may be best
    automatic = 0.0 if name == "nfa" else thresholds["fair"]
    axis.plot(best, run.last(optimum), "*", color="black", ms=9, label="best on the test set")
    axis.plot(automatic, run.last(chosen), "o", color="black", ms=5, label="chosen without anomalies")
    axis.axvline(automatic, color="black", lw=0.6, ls=":")
    linear = abs(x[0]) if name == "nfa" else abs(automatic)
    if np.abs(x).max() > 10 * linear > 0:
        axis.set_xscale("symlog", linthresh=linear)  # heavy tails; a log-NFA map starts at -log10 N_T
        powers = range(math.ceil(math.log10(2 * linear)), math.floor(math.log10(x[-1])) + 1)
        ticks = {round(x[0]): f"{x[0]:.0f}", 0: "0"} if x[0] < 0 else {0: "0"}
        ticks |= {10.0**power: f"1e{power}" for power in powers[:: math.ceil(len(powers) / 4)]}
        axis.set_xticks(list(ticks), list(ticks.values()), minor=False)
        axis.set_xticks([], minor=True)
        axis.set_xlim(x[0], x[-1])
    source = run.record.segmentation.threshold_images
    chosen_on = f"\nchosen on {_IMAGES[source.source]}" if name == "score" else ""
    axis.set_xlabel(label + chosen_on, fontsize=8)
    axis.set_ylim(0, 1)
    axis.tick_params(labelsize=7)
    return axis.get_legend_handles_labels()


FIGURE = ThresholdsFigure

"""A metric along a numeric setting, such as the learning rate, with its spread over seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from nfbench.config.metrics import MetricName
from nfbench.config.tables import FigureConfig
from nfbench.core.errors import NfbenchError
from nfbench.figures._base import (
    MARKERS,
    PALETTE,
    DrawnRun,
    Legend,
    NothingToDraw,
    legend_above,
    means_by_seed,
    new_figure,
)
from nfbench.metrics import find_metric

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["FIGURE", "SensitivityFigure"]


Panel = tuple[str, str, str]
"""Setting of the runs, method behind the variants, and backbone."""


class SensitivityFigure(FigureConfig):
    """A metric along a numeric setting of the methods: mean and range over seeds, one line per title of variants."""

    example: ClassVar[Mapping[str, Any]] = {"along": "epochs"}

    kind: Literal["sensitivity"] = "sensitivity"
    along: str = Field("lr", description="numeric setting of the methods on the horizontal axis")
    metric: MetricName = Field("image_auroc", description="metric on the vertical axis, of the last epoch")

    def draw(self, runs: Sequence[DrawnRun]) -> Figure:
        """Draw one row per setting of the runs and one column per method and backbone.

        Variants with one title are one line. A point is the mean over seeds of means over the categories that the panel
        has; a bar reaches from the lowest to the highest seed, so that a training that fails in one seed shows.
        """
        panels: dict[Panel, list[DrawnRun]] = {}
        for run in runs:
            if not math.isnan(run.last(self.metric)):
                panels.setdefault((run.cell.setting, run.record.cell.variant_of, run.cell.backbone), []).append(run)
        if not panels:
            raise NothingToDraw(f"a figure of kind 'sensitivity' needs runs with {find_metric(self.metric).title}")
        rows = list(dict.fromkeys(setting for setting, *_ in panels))
        columns = list(dict.fromkeys(tuple(rest) for _, *rest in panels))
        titles = list(dict.fromkeys(_title(run) for found in panels.values() for run in found))
        figure = new_figure(3.2 * len(columns), 2.4 * len(rows))
        axes = figure.subplots(len(rows), len(columns), squeeze=False, sharey=True)
        legend: Legend = ([], [])
        for (setting, method, backbone), found in panels.items():
            axis = axes[rows.index(setting), columns.index((method, backbone))]
            self._draw(axis, found, titles)
            method_title = found[0].record.cell.method_title
            axis.set_title(f"{method_title}, {setting}\n{backbone}", fontsize=8)
            for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
                if label not in legend[1]:
                    legend[0].append(handle)
                    legend[1].append(label)
        for axis in axes.flat:
            axis.tick_params(labelsize=7)
            if not axis.lines:
                axis.set_axis_off()
        self._describe(axes, runs)
        legend_above(figure, legend)
        return figure

    def _draw(self, axis: Axes, runs: Sequence[DrawnRun], titles: Sequence[str]) -> None:
        """Draw the lines of one panel."""
        lines: dict[str, dict[float, list[DrawnRun]]] = {}
        for run in runs:
            lines.setdefault(_title(run), {}).setdefault(self._place(run), []).append(run)
        for title, by_value in lines.items():
            values = sorted(by_value)
            seeds = [means_by_seed(by_value[value], self.metric) for value in values]
            means = [sum(found) / len(found) for found in seeds]
            below = [mean - min(found) for mean, found in zip(means, seeds, strict=True)]
            above = [max(found) - mean for mean, found in zip(means, seeds, strict=True)]
            style = titles.index(title)
            axis.errorbar(
                values,
                means,
                (below, above),
                label=title,
                color=PALETTE[style % len(PALETTE)],
                marker=MARKERS[style % len(MARKERS)],
                ms=4,
                lw=1.2,
                capsize=3,
            )
        found = [value for by_value in lines.values() for value in by_value]
        if min(found) > 0:
            axis.set_xscale("log")
        axis.grid(color="#dddddd", lw=0.6)

    def _place(self, run: DrawnRun) -> float:
        value = run.record.settings.get(self.along)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise NfbenchError(
                f"a figure of kind 'sensitivity' needs a number as '{self.along}', but {run.cell} has {value!r}"
            )
        return float(value)

    def _describe(self, axes: Any, runs: Sequence[DrawnRun]) -> None:
        named = find_metric(self.metric)
        n_seeds = len({run.cell.seed for run in runs})
        categories = ", ".join(dict.fromkeys(run.cell.category for run in runs))
        for row in axes:
            row[0].set_ylabel(f"{named.title}{named.metric.unit.suffix}, last epoch", fontsize=8)
        for axis in axes[-1]:
            axis.set_xlabel(f"{self.along}\nmean over {categories}; mean and range of {n_seeds} seeds", fontsize=7)


def _title(run: DrawnRun) -> str:
    """Title of the run's line: that of its variant without its method, which the panel names."""
    return run.record.cell.title.removeprefix(f"{run.record.cell.method_title}, ")


FIGURE = SensitivityFigure

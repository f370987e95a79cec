"""Metrics by the strength of a condition, with their spread over seeds."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from textwrap import fill
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from nfbench.config import Condition, condition_of
from nfbench.config.metrics import MetricName
from nfbench.config.runs import Runs
from nfbench.config.tables import FigureConfig
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

__all__ = ["FIGURE", "RobustnessFigure"]

_LABEL_WIDTH = 34
"""Characters that fit along the height of a panel."""

Axis = tuple[str, float]
"""Axis of conditions, and the largest ratio of contamination."""


class RobustnessFigure(FigureConfig):
    """Metrics by the strength of each condition: one line per method, its band from the lowest to the highest seed."""

    example: ClassVar[Mapping[str, Any]] = {"metrics": ["image_auroc"]}
    of_conditions = True

    kind: Literal["robustness"] = "robustness"
    metrics: tuple[MetricName, ...] = Field(
        ("image_auroc",), min_length=1, description="metrics of the last epoch, one row of panels each"
    )

    def faults(self, key: str, runs: Runs) -> Iterator[str]:
        """Yield a fault if the experiment has no conditions."""
        yield from super().faults(key, runs)
        if not runs.of(self.setting).conditions:
            yield f"'{key}': a figure of kind 'robustness' needs a block with 'shots', 'contamination' or 'shift'"

    def draw(self, runs: Sequence[DrawnRun]) -> Figure:
        """Draw one column of panels per axis and one row per metric.

        A point is the mean over seeds of means over categories. Runs on unchanged images are the point of strength 0 of
        a shift, and that of all normal images for shots.
        """
        axes_of = _axes(runs)
        if not axes_of:
            raise NothingToDraw("a figure of kind 'robustness' needs runs under conditions")
        groups: dict[tuple[str, str, str], list[DrawnRun]] = {}
        for run in runs:
            groups.setdefault(run.column, []).append(run)
        names = _names(list(groups.values()))
        figure = new_figure(2.5 * len(axes_of) + 0.6, 2.1 * len(self.metrics) + 0.3)
        panels = figure.subplots(len(self.metrics), len(axes_of), squeeze=False, sharey="row")
        legend: Legend = ([], [])
        for row, metric in zip(panels, self.metrics, strict=True):
            named = find_metric(metric)
            row[0].set_ylabel(fill(f"{named.title}{named.metric.unit.suffix}", _LABEL_WIDTH), fontsize=8)
            for panel, axis in zip(row, axes_of, strict=True):
                for number, (group, name) in enumerate(zip(groups.values(), names, strict=True)):
                    _draw_line(panel, _points(group, axis, metric), number, name)
                found = panel.get_legend_handles_labels()
                legend = found if len(found[1]) > len(legend[1]) else legend
                panel.grid(color="#dddddd", lw=0.6)
                panel.tick_params(labelsize=7)
        for panel, axis in zip(panels[-1], axes_of, strict=True):
            panel.set_xlabel(_label(axis), fontsize=8)
        for column, axis in zip(panels.T, axes_of, strict=True):
            for panel in column:
                _scale(panel, axis)
        figure.supxlabel(_description(runs), fontsize=8)
        legend_above(figure, legend)
        return figure


def _axes(runs: Sequence[DrawnRun]) -> list[Axis]:
    """Axes with at least one run under a condition, in the order of the runs."""
    found = (condition_of(run.cell.condition) for run in runs)
    return list(dict.fromkeys((one.axis, one.largest) for one in found if one.axis))


def _points(runs: Sequence[DrawnRun], axis: Axis, metric: str) -> dict[float, list[float]]:
    """Means over categories by seed, by strength; without undefined values."""
    by_strength: dict[float, list[DrawnRun]] = {}
    for run in runs:
        found = condition_of(run.cell.condition)
        if (found.axis, found.largest) == axis:
            by_strength.setdefault(found.strength, []).append(run)
    if by_strength and axis[0] != "contamination":
        plain = [run for run in runs if not run.cell.condition]
        if plain:
            by_strength[_place_of_unchanged(axis, plain)] = plain
    means = {strength: means_by_seed(by_strength[strength], metric) for strength in sorted(by_strength)}
    return {strength: values for strength, values in means.items() if not any(map(math.isnan, values))}


def _place_of_unchanged(axis: Axis, runs: Sequence[DrawnRun]) -> float:
    """Strength of unchanged images: 0 of a shift; for shots the mean number of normal images."""
    if axis[0] != "shots":
        return 0.0
    counts = [run.record.data.n_train + run.record.data.n_val for run in runs]
    return sum(counts) / len(counts)


def _draw_line(panel: Axes, points: Mapping[float, Sequence[float]], number: int, name: str) -> None:
    if not points:
        return
    color, marker = PALETTE[number % len(PALETTE)], MARKERS[number % len(MARKERS)]
    strengths = list(points)
    means = [math.fsum(values) / len(values) for values in points.values()]
    panel.plot(strengths, means, label=name, ms=4, lw=1.2, color=color, marker=marker)
    low, high = ([end(values) for values in points.values()] for end in (min, max))
    panel.fill_between(strengths, low, high, color=color, alpha=0.15, lw=0)


def _scale(panel: Axes, axis: Axis) -> None:
    """Use a logarithmic axis for numbers of images."""
    if axis[0] == "shots":
        panel.set_xscale("log", base=2)
        panel.xaxis.set_major_formatter(lambda value, _: f"{value:g}")


def _label(axis: Axis) -> str:
    of = f"\n(test set of ratio {axis[1]:g})" if axis[1] else ""
    return f"{Condition(*axis[:1]).axis_title}{of}"


def _names(groups: Sequence[Sequence[DrawnRun]]) -> list[str]:
    """Titles of the methods, with backbone and setting where several share a title."""
    titles = [group[0].record.cell.title for group in groups]
    longer = [f"{title}, {group[0].cell.backbone}" for title, group in zip(titles, groups, strict=True)]
    full = [f"{name}, {group[0].cell.setting}" for name, group in zip(longer, groups, strict=True)]
    for names in (titles, longer):
        if len(set(names)) == len(names):
            return names
    return full


def _description(runs: Sequence[DrawnRun]) -> str:
    seeds = sorted({run.cell.seed for run in runs})
    categories = ", ".join(dict.fromkeys(run.cell.category for run in runs))
    spread = f"; band: range of {len(seeds)} seeds" if len(seeds) > 1 else "; one seed"
    return f"mean over {categories}{spread}"


FIGURE = RobustnessFigure

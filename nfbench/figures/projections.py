"""Projections of normal positions, training anomalies and other anomalies on planes of largest variance."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
)
from nfbench.figures._representations import MEMBERS, WHAT, read_shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from nfbench.scoring.representations import Representation

__all__ = ["FIGURE", "ProjectionsFigure"]

_SIZE = 8
_OUTER = 0.01
_BOX = {"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 1}


class ProjectionsFigure(FigureConfig):
    """Positions of test images in the plane of their largest variance."""

    needs, drawn = MEMBERS, WHAT

    kind: Literal["projections"] = "projections"

    def draw(self, runs: Sequence[DrawnRun]) -> Figure:
        """Draw one row per category, method and representation, and one column per level, for the first seed.

        Levels are fine to coarse. A panel shows the first two principal components of at most 300 positions per group:
        normal, anomalous, and anomalous in training. The outermost percent on each side is moved to the border. Methods
        without representations and runs without masks are left out.

        Raises:
            NothingToDraw: no run of the first seed has representations and masks.
        """
        from matplotlib.lines import Line2D

        everything = read_shown("projections", runs).items()
        shown = {folder: (run, found) for folder, (run, found) in everything if all(len(one.points) for one in found)}
        drawn = {str(group) for _, found in shown.values() for one in found for group in one.groups}
        if not drawn:
            raise NothingToDraw("a figure of kind 'projections' needs images with masks, but there are none")
        bands = bands_of([run for run, _ in shown.values()])
        rows = [row for title, run in bands for row in _rows(title, shown[run.folder][1])]
        count = max(len(found) for _, found in rows)
        figure = new_figure(max(3 * count, 6), 2.7 * len(rows) + 0.3)
        axes = figure.subplots(len(rows), count, squeeze=False)
        for row, (_, found) in zip(axes, rows, strict=True):
            for axis, one in zip(row, found, strict=False):
                _draw(axis, one, level_name(one.level, len(found)) if len(found) > 1 else "")
            for axis in row[len(found) :]:
                axis.set_axis_off()
            row[0].set_ylabel(f"{found[0].name}\n{row[0].get_ylabel()}", fontsize=8)
        groups = [group for group in GROUPS if group in drawn]
        handles = [Line2D([], [], color=COLORS[group], marker="o", ls="", ms=4) for group in groups]
        titles = {axis: title for axis, (title, _) in zip(axes[:, 0], rows, strict=True) if title}
        legend_above(figure, (handles, [GROUPS[group] for group in groups]), titles)
        return figure


def _rows(title: str, found: Sequence[Representation]) -> Iterator[tuple[str, list[Representation]]]:
    """Yield the levels of each representation of a run with its heading; only the first heading has the title."""
    for number, name in enumerate(dict.fromkeys(one.name for one in found)):
        yield "" if number else title, [one for one in found if one.name == name]


def _draw(axis: Axes, one: Representation, level: str) -> None:
    import numpy as np

    order = np.random.default_rng(0).permutation(len(one.points))  # so that no group covers another
    x, y = one.points.clip(*np.quantile(one.points, (_OUTER, 1 - _OUTER), axis=0))[order].T
    axis.scatter(x, y, s=_SIZE, c=[COLORS[group] for group in one.groups[order]], alpha=0.6, lw=0)
    first, second = (f"{100 * share:.0f} %" for share in one.shares)
    axis.set_xlabel(f"first component, {first}", fontsize=7)
    axis.set_ylabel(f"second component, {second}", fontsize=7)
    axis.tick_params(labelsize=6)
    if level:
        axis.text(0.97, 0.97, level, transform=axis.transAxes, ha="right", va="top", fontsize=7, bbox=_BOX)


FIGURE = ProjectionsFigure

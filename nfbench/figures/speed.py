"""Image AUROC by speed of inference, one labelled point per method."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import product
from typing import TYPE_CHECKING, Literal, NamedTuple

from pydantic import Field

from nfbench.config.tables import FigureConfig
from nfbench.core.errors import NfbenchError, required
from nfbench.core.provenance import describe_machine
from nfbench.figures._base import COLORS, PALETTE, DrawnRun, NothingToDraw, means_by_seed, new_figure
from nfbench.metrics import find_metric

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Annotation
    from matplotlib.transforms import Bbox

    from nfbench.results.record import RunRecord

__all__ = ["FIGURE", "SpeedFigure"]

_MARKERS = "os^DvPX*<>hp"
_MARKER_SIZE = 8
_METRIC = find_metric("image_auroc")
_DISTANCES = (9, 16, 25, 36, 50, 66)
_DIRECTIONS = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1))
_ANCHORS = {1: ("left", "bottom"), 0: ("center", "center"), -1: ("right", "top")}


class _Point(NamedTuple):
    """A method: images per second, image AUROC in percent, and standard deviation over seeds (NaN for one seed)."""

    label: str
    speed: float
    auroc: float
    std: float


class SpeedFigure(FigureConfig):
    """Image AUROC by speed of inference, one point per method."""

    kind: Literal["speed"] = "speed"
    by: Literal["throughput", "latency"] = Field(
        "throughput", description="images per second of extraction and scoring, or of single images from file to map"
    )

    @property
    def shows_latency(self) -> bool:
        """Whether speed is measured by latency."""
        return self.by == "latency"

    def draw(self, runs: Sequence[DrawnRun]) -> Figure:
        """Draw image AUROC of the last epoch against measured images per second on a log axis.

        Throughput is that of extraction and scoring together, ``1 / (1 / extract + 1 / score)``; for ``latency``, it is
        the inverse of the median time of a single image. Both axes show means over the categories that all methods have
        and over seeds; error bars are the standard deviation over seeds. A method whose backbone has several input
        sizes, by category, is one point.
        """
        measured = [run for run in runs if not math.isnan(run.last(_METRIC.name))]
        if not measured:
            raise NothingToDraw("a figure of kind 'speed' needs normal and anomalous test images")
        methods = _by_method(measured)
        common = set.intersection(*({_category(run) for run in found} for found in methods.values()))
        if not common:
            raise NfbenchError("a figure of kind 'speed' needs a category that all methods have")
        chosen = {label: [run for run in found if _category(run) in common] for label, found in methods.items()}
        if self.by == "latency" and any(run.record.latency is None for found in chosen.values() for run in found):
            raise NfbenchError(
                "the latency of a run was not measured: it was scored before a figure needed it, or the weights of "
                "its backbone were missing; delete its run.json and run 'snakemake'"
            )
        points = [_point(label, found, self._seconds) for label, found in chosen.items()]
        figure = new_figure(7.5, 5)
        axis = figure.subplots()
        for number, point in enumerate(points):
            error = None if math.isnan(point.std) else point.std
            fmt, color = _MARKERS[number % len(_MARKERS)], PALETTE[number % len(PALETTE)]
            axis.errorbar(point.speed, point.auroc, error, fmt=fmt, color=color, ms=_MARKER_SIZE, lw=1.2, capsize=3)
        _arrange(axis, [run for found in chosen.values() for run in found], sorted(common), self.by)
        _label(figure, axis, points)
        return figure

    def _seconds(self, record: RunRecord) -> float:
        """Seconds per image."""
        if self.by == "latency":
            return 1e-3 * required(record.latency, "the latency").ms
        return 1 / record.images_per_second["extract"] + 1 / record.images_per_second["score"]


def _category(run: DrawnRun) -> tuple[str, str]:
    return run.cell.dataset, run.cell.category


def _by_method(runs: Sequence[DrawnRun]) -> dict[str, list[DrawnRun]]:
    """Group runs by point, a method on a backbone, under a distinct label."""
    groups: dict[tuple[str, str], list[DrawnRun]] = {}
    for run in runs:
        groups.setdefault((run.cell.method, run.cell.backbone.partition("@")[0]), []).append(run)
    split: dict[tuple[str, str], list[DrawnRun]] = {}
    for (method, name), found in groups.items():
        pairs = {(_category(run), run.cell.backbone) for run in found}
        several = len(pairs) > len({category for category, _ in pairs})
        for run in found:
            split.setdefault((method, run.cell.backbone if several else name), []).append(run)
    titles = [found[0].record.cell.title for found in split.values()]
    return {
        title if titles.count(title) == 1 else f"{title}, {backbone}": found
        for ((_, backbone), found), title in zip(split.items(), titles, strict=True)
    }


def _point(label: str, runs: Sequence[DrawnRun], seconds_of: Callable[[RunRecord], float]) -> _Point:
    import numpy as np

    aurocs = means_by_seed(runs, _METRIC.name)
    seconds = np.mean([seconds_of(run.record) for run in runs])
    std = float(np.std(aurocs, ddof=1)) if len(aurocs) > 1 else math.nan
    return _Point(label, 1 / float(seconds), float(np.mean(aurocs)), std)


def _arrange(axis: Axes, runs: Sequence[DrawnRun], categories: Sequence[tuple[str, str]], by: str) -> None:
    """Set scales, and labels that name metric, data and machine."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axis.set_xscale("log")
    axis.margins(x=0.2, y=0.2)
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter("{x:g}")
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.grid(color="#dddddd", lw=0.6)
    axis.set_axisbelow(True)
    stages, speed = (
        ({"features": "extract", "scores": "score"}, "extraction of features and scoring together")
        if by == "throughput"
        else ({"measured on": "score"}, "one at a time, from file to map, median")
    )
    machines = [
        f"{what}: {'; '.join(dict.fromkeys(describe_machine(run.record.provenance[stage]) for run in runs))}"
        for what, stage in stages.items()
    ]
    random = any(run.record.features.recipe.weights == "random" for run in runs)
    warning = ["RANDOM weights, for tests only"] if random else []
    axis.set_xlabel("\n".join([f"images per second, {speed}", *machines, *warning]), fontsize=8)
    seeds = len({run.cell.seed for run in runs})
    names = ", ".join(category for _, category in categories)
    over = f"mean over {len(categories)} categories" if len(categories) > 4 else f"mean over {names}"
    spread = f", ± standard deviation over {seeds} seeds" if seeds > 1 else ", one seed"
    axis.set_ylabel(f"{_METRIC.title}{_METRIC.metric.unit.suffix}, last epoch\n{over}{spread}", fontsize=8)
    axis.tick_params(labelsize=8)


def _label(figure: Figure, axis: Axes, points: Sequence[_Point]) -> None:
    """Place each label as close to its point as possible without covering points or other labels."""
    figure.tight_layout()
    figure.canvas.draw()
    taken = [_extent(axis, point) for point in points]
    for point in points:
        taken.append(_place(axis, point, taken))


def _extent(axis: Axes, point: _Point) -> Bbox:
    """Pixel box of a marker and its error bar."""
    from matplotlib.transforms import Bbox

    spread = 0 if math.isnan(point.std) else point.std
    radius = 0.75 * _MARKER_SIZE * axis.figure.dpi / 72
    ends = axis.transData.transform([(point.speed, point.auroc - spread), (point.speed, point.auroc + spread)])
    return Bbox([ends[0] - radius, ends[1] + radius])


def _place(axis: Axes, point: _Point, taken: Sequence[Bbox]) -> Bbox:
    """Place a label at the nearest free place, outside the boxes ``taken``; return its pixel box.

    Without a free place, the label is to the right of its point.
    """
    for distance, (x, y) in product(_DISTANCES, _DIRECTIONS):
        text = _write(axis, point, distance, x, y)
        box = _pixels(text)
        inside = all(axis.bbox.contains(*corner) for corner in box.corners())
        if inside and not any(box.overlaps(other) for other in taken):
            return box
        text.remove()
    return _pixels(_write(axis, point, _DISTANCES[0], 1, 0))


def _write(axis: Axes, point: _Point, distance: float, x: int, y: int) -> Annotation:
    """Draw a label at a distance in points, in the direction of ``x`` and ``y``; distant labels get a line."""
    line = {"arrowstyle": "-", "lw": 0.5, "color": COLORS["neutral"], "shrinkA": 0, "shrinkB": 0}
    return axis.annotate(
        point.label,
        (point.speed, point.auroc),
        (distance * x, distance * y),
        textcoords="offset points",
        ha=_ANCHORS[x][0],
        va=_ANCHORS[y][1],
        fontsize=8,
        arrowprops=line if distance > _DISTANCES[0] or x * y else None,
    )


def _pixels(text: Annotation) -> Bbox:
    """Pixel box of a label's text, without its line."""
    from matplotlib.text import Text

    text.get_window_extent()  # places the text
    return Text.get_window_extent(text)


FIGURE = SpeedFigure

"""Common parts of figures: runs to draw, layout, and output without a display.

Kinds are imported while the workflow is parsed, so matplotlib and numpy are imported only for drawing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nfbench.config.validation import printable
from nfbench.core.errors import NfbenchError, required
from nfbench.core.files import atomic_path, remove_stale
from nfbench.metrics import find_metric
from nfbench.plan.cells import Cell
from nfbench.plan.paths import Paths
from nfbench.results.record import RunRecord, read_expected

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "COLORS",
    "GROUPS",
    "MARKERS",
    "PALETTE",
    "Column",
    "DrawnRun",
    "Legend",
    "NothingToDraw",
    "bands_of",
    "by_category",
    "columns_of",
    "draw_grid",
    "find_run",
    "legend_above",
    "level_name",
    "means_by_seed",
    "new_figure",
    "note_figure",
    "of_first_seed",
    "read_runs",
    "write_figure",
]

COLORS = {
    "normal": "#1f77b4",
    "anomalous": "#d62728",
    "learned": "#9467bd",
    "pseudo": "#ff7f0e",
    "neutral": "#555555",
}
GROUPS = {
    "normal": "normal",
    "anomalous": "anomalous",
    "learned": "anomalous, used for training",
    "pseudo": "pseudo-anomalous",
}
"""Groups of positions, with their names in legends."""

# Okabe and Ito's palette without yellow, which is too pale on white
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "osD^vPX"
"""Colours and markers of lines, by number of the line."""

Column = tuple[str, str, str]
"""Setting, method and backbone."""

Legend = tuple[list[Any], list[str]]
"""Handles and labels."""

_DPI = 130
_LONGEST = 60_000
"""Maximum pixels of a side: matplotlib cannot draw 2^16, and the tight bounding box may add a few."""


class NothingToDraw(NfbenchError):
    """Raised if no run has data for a kind of figure. If test images are missing, a figure with a note replaces it."""


@dataclass(frozen=True)
class DrawnRun:
    """A run that a figure draws: its cell, record and folder, the folder of its training, and its study, if any."""

    cell: Cell
    record: RunRecord
    folder: Path
    training_folder: Path
    study: Path | None = None

    @property
    def title(self) -> str:
        """Method and backbone."""
        return f"{self.record.cell.title}\n{self.cell.backbone}"

    @property
    def contour(self) -> float:
        """Threshold of the contour in maps, for a run with maps."""
        return required(self.record.contour, f"the contour of {self.cell}")

    def last(self, metric: str) -> float:
        """Value of a metric at the last epoch; NaN if undefined."""
        value = self.record.selections["last"].metrics[metric]
        return math.nan if value is None else value

    @property
    def column(self) -> Column:
        """Key of the run's column."""
        return self.cell.setting, self.cell.method, self.cell.backbone


def read_runs(expected: Mapping[Cell, str], paths: Paths) -> list[DrawnRun]:
    """Read run records.

    Args:
        expected: cells, each with the short hash of its evaluation's spec; see ``nfbench.plan.origin``.
        paths: locations of all files.

    Raises:
        NfbenchError: a record is missing or damaged, or belongs to other settings, images or code; names it.
    """
    runs = []
    for cell, digest in expected.items():
        record = read_expected(path := paths.run_record(cell), cell, digest)
        runs.append(DrawnRun(cell, record, path.parent, paths.run_record(cell.trained).parent, paths.study_of(cell)))
    return runs


def columns_of(runs: Sequence[DrawnRun]) -> dict[Column, str]:
    """Columns of the runs in order, with their titles, which name the setting if there are several."""
    several = len({run.cell.setting for run in runs}) > 1
    return {run.column: f"{run.title}\n{run.cell.setting}" if several else run.title for run in runs}


def find_run(runs: Sequence[DrawnRun], column: Column) -> DrawnRun | None:
    """Return the run of a column; None if there is none."""
    return next((run for run in runs if run.column == column), None)


def means_by_seed(runs: Sequence[DrawnRun], metric: str) -> list[float]:
    """Means of a metric at the last epoch over the runs of each seed, in the unit that is printed."""
    factor = find_metric(metric).metric.unit.factor
    by_seed: dict[int, list[float]] = {}
    for run in runs:
        by_seed.setdefault(run.cell.seed, []).append(factor * run.last(metric))
    return [math.fsum(values) / len(values) for values in by_seed.values()]


def of_first_seed(runs: Sequence[DrawnRun]) -> list[DrawnRun]:
    """Runs of the first seed, for figures that draw a single seed."""
    first = min(run.cell.seed for run in runs)
    return [run for run in runs if run.cell.seed == first]


def by_category(runs: Sequence[DrawnRun]) -> dict[tuple[str, str], list[DrawnRun]]:
    """Group runs by (dataset, category), in order of first appearance."""
    grouped: dict[tuple[str, str], list[DrawnRun]] = {}
    for run in runs:
        grouped.setdefault((run.cell.dataset, run.cell.category), []).append(run)
    return grouped


def bands_of(runs: Sequence[DrawnRun]) -> list[tuple[str, DrawnRun]]:
    """Runs by category, then by column, each with a title, for figures with one band of panels per run."""
    columns, bands = columns_of(runs), []
    for category, of_category in by_category(runs).items():
        for column, title in columns.items():
            if run := find_run(of_category, column):
                method, backbone, *setting = title.splitlines()
                bands.append((", ".join([" ".join(category), f"{method} on {backbone}", *setting]), run))
    return bands


def level_name(level: int, count: int) -> str:
    """Name of a level by its position among the run's own levels, independent of the backbone's numbering."""
    ends = {0: ", finest", count - 1: ", coarsest"} if count > 1 else {}
    return f"level {level + 1} of {count}{ends.get(level, '')}"


def new_figure(width: float, height: float, **options: Any) -> Figure:
    """Create an empty figure without a display; it shows text literally.

    Args:
        width: width in inches.
        height: height in inches.
        options: options of ``matplotlib.pyplot.figure``.
    """
    import matplotlib as mpl
    from matplotlib import pyplot

    mpl.use("agg")
    mpl.rcParams["text.parse_math"] = False  # dollar signs, braces and backslashes in names are not formulas
    return pyplot.figure(figsize=(width, height), **options)


def note_figure(text: str) -> Figure:
    """Create a figure with one line of text, used if there is nothing to draw."""
    figure = new_figure(max(4.0, 0.075 * len(text)), 0.6)
    figure.text(0.5, 0.5, text, ha="center", va="center", fontsize=8, color=COLORS["neutral"])
    return figure


def draw_grid(
    runs: Sequence[DrawnRun],
    columns: Mapping[Any, str],
    draw: Callable[[Axes, Sequence[DrawnRun], Any], Legend | None],
    panel: tuple[float, float],
    labels: tuple[str, str],
    *,
    sharey: bool = False,
) -> Figure:
    """Draw a grid of panels, one row per category, with one legend above.

    Args:
        runs: runs to draw.
        columns: titles of the columns.
        draw: draws the runs of a category into the panel of a column; returns handles and labels of the legend, or None
            for an empty panel.
        panel: width and height of a panel in inches.
        labels: x label of the bottom panels, and y label of the first column, after dataset and category.
        sharey: share one y axis among all panels.
    """
    grouped = by_category(runs)
    figure = new_figure(panel[0] * len(columns), panel[1] * len(grouped))
    axes = figure.subplots(len(grouped), len(columns), squeeze=False, sharey=sharey)
    legend: Legend = ([], [])
    for row, (category, category_runs) in zip(axes, grouped.items(), strict=True):
        for axis, column in zip(row, columns, strict=True):
            shown = draw(axis, category_runs, column)
            legend = shown or legend
            if shown is None:
                axis.set_axis_off()
        row[0].set_ylabel("\n".join((*category, labels[1])), fontsize=8)
    for axis, title in zip(axes[0], columns.values(), strict=True):
        axis.set_title(title, fontsize=8)
    for axis in axes[-1]:
        if labels[0]:
            axis.set_xlabel(labels[0], fontsize=8)
    legend_above(figure, legend)
    return figure


def legend_above(figure: Figure, shown: Legend, bands: Mapping[Axes, str] | None = None) -> None:
    """Arrange the figure with one legend above all axes, without overlap.

    Args:
        figure: the figure.
        shown: handles and labels.
        bands: titles of bands of panels by their first axes; they may be wider than these.
    """
    for axis in bands or ():
        axis.set_title(" ", fontsize=8, loc="left")
    n_columns = max(1, min(len(shown[0]), int(figure.get_figwidth() / 2)))
    inches = 0.1 + 0.2 * math.ceil(len(shown[0]) / n_columns)
    share = 1 - inches / figure.get_figheight()
    figure.tight_layout(rect=(0, 0, 1, share))
    for axis, title in (bands or {}).items():
        axis.set_title(title, fontsize=8, loc="left")
    figure.legend(*shown, loc="upper center", ncols=n_columns, fontsize=8, frameon=False)


def write_figure(figure: Figure, paths: Sequence[Path]) -> None:
    """Write a figure to each path, in the format of its extension, and close it.

    Figures that would be too large are written at a lower resolution.
    Text is shown literally; control characters, and bytes of names that are not UTF-8, appear as numbers.
    """
    from matplotlib import pyplot, rcParams
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        text.set_text("\n".join(map(printable, text.get_text().split("\n"))))
    for folder in {path.parent for path in paths}:
        remove_stale(folder)
    if figure.get_layout_engine():
        figure.draw_without_rendering()
        figure.set_layout_engine(None)  # arrange once, not for each file
    box = figure.get_tightbbox().padded(rcParams["savefig.pad_inches"])
    dpi = min(_DPI, _LONGEST / max(figure.get_size_inches()))
    for path in paths:
        options: dict[str, Any] = {"metadata": {"CreationDate": None}}
        if path.suffix == ".png":
            options = {"metadata": {"Software": None}, "pil_kwargs": {"compress_level": 3}}  # faster, 12 % larger
        with atomic_path(path) as temporary:
            figure.savefig(temporary, dpi=dpi, bbox_inches=box, **options)
    pyplot.close(figure)

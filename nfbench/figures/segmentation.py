"""A contrario segmentation, as in U-Flow's Figures 5 and 6."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from nfbench.config.tables import FigureConfig
from nfbench.core.errors import NfbenchError
from nfbench.datasets._manifest import Entry, read_checked_image
from nfbench.figures._base import (
    DrawnRun,
    NothingToDraw,
    by_category,
    columns_of,
    find_run,
    legend_above,
    new_figure,
    of_first_seed,
)
from nfbench.figures._examples import draw_example
from nfbench.results.files import DetectedRegion, read_rows
from nfbench.results.record import tested_images

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["FIGURE", "SegmentationFigure"]

_CELL = 1.5
_AUTOMATIC, _ORACLE = "#ff2d2d", "#00c8ff"


class SegmentationFigure(FigureConfig):
    """A contrario segmentations of examples."""

    needs = ("latent_shapes",)
    drawn = "standard normal latents"

    kind: Literal["segmentation"] = "segmentation"
    nfa: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(
        (1.0,), min_length=1, description="draw detections at these numbers of false alarms, at most 1 each"
    )

    def draw(self, runs: Sequence[DrawnRun]) -> Figure:
        """Draw one row per example, then each method's most anomalous normal images, for methods with NFA, first seed.

        Each method has its anomaly map, log10 NFA (white at 0, red below 0, where regions are meaningful), and for each
        value of ``nfa`` the image with the automatic mask filled and the outline of the mask at the best threshold on
        the test set. The title counts the normal test images of all categories with a false alarm. Panels of methods
        that used the image and keep no map of it are empty.
        """
        from matplotlib.lines import Line2D
        from matplotlib.patches import Patch

        from nfbench.results.examples import read_examples

        with_nfa = [run for run in of_first_seed(runs) if "nfa" in run.record.segmentation.false_alarms]
        if not with_nfa:
            raise NfbenchError("a figure of kind 'segmentation' needs a method with standard normal latents")
        grouped, titles = by_category(with_nfa), columns_of(with_nfa)
        examples = {run.folder: read_examples(run.folder) for run in with_nfa}
        width = 2 + len(self.nfa)
        n_columns = 2 + width * len(titles)
        of_first = {key: examples[category_runs[0].folder] for key, category_runs in grouped.items()}
        n_rows = sum(len(first.images) + len(first.suspects) for first in of_first.values())
        if not n_rows:
            raise NothingToDraw("a figure of kind 'segmentation' needs test images, but there are none")
        figure = new_figure(_CELL * n_columns, _CELL * n_rows)
        axes = figure.subplots(n_rows, n_columns, squeeze=False)
        for axis in axes.flat:
            axis.set_xticks([])
            axis.set_yticks([])
            axis.set_frame_on(False)
        rows = iter(axes)
        for (dataset, category), category_runs in grouped.items():
            entries = tested_images(category_runs[0].record)
            first = of_first[dataset, category]
            present = [(column, find_run(category_runs, key)) for column, key in enumerate(titles)]
            for rank, index in enumerate([*first.images, *first.suspects], start=-len(first.images)):
                row = next(rows)
                suspect = rank >= 0
                kind = "good, of highest score" if suspect else entries[index].defect
                label = f"{dataset}\n{category}\n{kind}"
                if suspect:  # these images differ by method
                    row[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=7)
                else:
                    draw_example(row, entries[index], label)
                for column, run in present:
                    if run is None:
                        continue
                    found = examples[run.folder]
                    number = next(iter(found.suspects[rank:]), None) if suspect else index
                    kept = None if number is None else found.row(number)
                    if number is not None and kept is not None:
                        panels = row[2 + width * column : 2 + width * (column + 1)]
                        _draw(panels, entries[number], run, found.maps, kept, self.nfa)
        for column, (key, title) in enumerate(titles.items()):
            alarms = [_alarms([run for run in with_nfa if run.column == key], nfa) for nfa in self.nfa]
            names = ["anomaly map", f"{title}\nlog10 NFA", *alarms]
            for axis, name in zip(axes[0, 2 + width * column :], names, strict=False):
                axis.set_title(name, fontsize=7)
        axes[0, 0].set_title("image", fontsize=7)
        axes[0, 1].set_title("ground truth", fontsize=7)
        handles = [Patch(color=_AUTOMATIC, alpha=0.5), Line2D([], [], color=_ORACLE)]
        legend_above(figure, (handles, ["automatic, by NFA", "best threshold of log NFA"]))
        figure.subplots_adjust(wspace=0.04, hspace=0.04)
        return figure


def _alarms(runs: Sequence[DrawnRun], nfa: float) -> str:
    """Count the normal test images of all runs with a false alarm; only regions with NFA < 1 are known."""
    regions = [(run.cell, row) for run in runs for row in read_rows(DetectedRegion, run.folder) if row.map == "nfa"]
    alarmed = {(cell, row.image) for cell, row in regions if not row.label and row.log_nfa < math.log10(nfa)}
    total = sum(run.record.data.n_test_normal for run in runs)
    limit = f"{nfa:g}".replace("e-0", "e-")
    return f"NFA < {limit}\nalarms in {len(alarmed)} of {total}\nnormal images"


def _draw(
    axes: Sequence[Axes],
    entry: Entry,
    run: DrawnRun,
    maps: dict[str, np.ndarray],
    number: int,
    limits: Sequence[float],
) -> None:
    import numpy as np

    from nfbench.scoring.maps import resize_map

    score_map, log_nfa = (
        resize_map(maps[name][number].astype(np.float32), entry.height, entry.width) for name in ("maps", "nfa")
    )
    # limit the scales, because maps and log NFA of flows may have heavy tails
    low, high = float(maps["maps"].min()), float(maps["maps"].max())
    if run.contour > low:
        high = min(high, low + 3 * (run.contour - low))
    axes[0].imshow(score_map, cmap="inferno", vmin=low, vmax=high)
    highest = max(float(maps["nfa"].max()), 1.0)
    axes[1].imshow(log_nfa, cmap="RdGy", vmin=-highest, vmax=highest)
    smallest = f"min {log_nfa.min():.0f}"
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 1}
    axes[1].text(0.03, 0.04, smallest, fontsize=6, transform=axes[1].transAxes, bbox=box)
    for axis, nfa in zip(axes[2:], limits, strict=True):
        _draw_mask(axis, entry, log_nfa, math.log10(nfa), run.record.segmentation.thresholds.get("miou_nfa_oracle"))


def _draw_mask(axis: Axes, entry: Entry, log_nfa: np.ndarray, limit: float, oracle: float | None) -> None:
    """Draw the image with the mask below ``limit`` filled, and the outline of the mask below ``oracle``."""
    import numpy as np
    from matplotlib.colors import to_rgb
    from matplotlib.patches import Rectangle

    axis.imshow(read_checked_image(entry))
    automatic = log_nfa < limit
    overlay = np.zeros((*automatic.shape, 4))
    overlay[automatic] = (*to_rgb(_AUTOMATIC), 0.5)
    axis.imshow(overlay)
    if oracle is not None and log_nfa.min() < oracle < log_nfa.max():
        axis.contour(log_nfa, levels=[oracle], colors=[_ORACLE], linewidths=0.9, linestyles="solid")
    elif oracle is not None and log_nfa.max() <= oracle:
        frame = Rectangle((0, 0), entry.width - 1, entry.height - 1, fill=False, ec=_ORACLE, lw=1.5)
        axis.add_patch(frame)


FIGURE = SegmentationFigure

"""Histograms of image scores: normal against anomalous test images."""

from collections.abc import Sequence

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nfbench.figures.base import COLORS, DrawnRun, by_category, legend_above, of_first_seed
from nfbench.results.files import ImageScore, read_rows

__all__ = ["draw_histograms"]

_BINS = 24


def draw_histograms(runs: Sequence[DrawnRun]) -> Figure:
    """One row per category, one column per method on each backbone; the method's own image score, first seed."""
    grouped = by_category(of_first_seed(runs))
    n_columns = max(len(category_runs) for category_runs in grouped.values())
    size = (3.4 * n_columns, 2.1 * len(grouped))
    figure, axes = plt.subplots(len(grouped), n_columns, figsize=size, squeeze=False)
    for row, ((dataset, category), category_runs) in zip(axes, grouped.items(), strict=True):
        for axis, run in zip(row, category_runs, strict=False):
            _draw(axis, run)
        row[0].set_ylabel(f"{dataset}\n{category}\nshare of images", fontsize=8)
    for axis, run in zip(axes[0], next(iter(grouped.values())), strict=False):
        axis.set_title(run.title, fontsize=8)
    for axis in axes[-1]:
        axis.set_xlabel("image score", fontsize=8)
    legend_above(figure, axes[0, 0].get_legend_handles_labels())
    return figure


def _draw(axis: Axes, run: DrawnRun) -> None:
    rows = read_rows(ImageScore, run.folder)
    scores = np.array([row.paper for row in rows])
    labels = np.array([row.label for row in rows])
    bins = np.linspace(scores.min(), scores.max() if scores.max() > scores.min() else scores.min() + 1, _BINS + 1)
    for label, name in enumerate(["normal", "anomalous"]):
        values = scores[labels == label]
        axis.hist(
            values,
            bins,
            weights=np.full(len(values), 1 / max(len(values), 1)),
            color=COLORS[name],
            alpha=0.6,
            label=name,
        )
    auroc = run.record.selections["last"].metrics["image_auroc"]
    axis.text(0.97, 0.95, f"AUROC {100 * auroc:.1f}", transform=axis.transAxes, ha="right", va="top", fontsize=8)
    axis.tick_params(labelsize=7)

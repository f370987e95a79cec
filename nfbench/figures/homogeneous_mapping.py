"""One model per category compared with one for all: do normal and anomalous positions become equally likely?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from nfbench.config.tables import FigureConfig
from nfbench.figures._base import COLORS, DrawnRun, NothingToDraw, legend_above, new_figure, of_first_seed
from nfbench.results.files import Bin, Epoch, read_rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["FIGURE", "HomogeneousMappingFigure"]

_SETTINGS = {"one-class": 1, "unified": -1}
_GROUPS = ("normal", "anomalous")
_STYLES = {"one-class": "-", "unified": "--"}
_ALPHA = 0.45
_CUT = 0.01

Rows = list[Bin]


class HomogeneousMappingFigure(FigureConfig):
    """Log-likelihoods and losses of one model per category and of one model for all categories."""

    kind: Literal["homogeneous_mapping"] = "homogeneous_mapping"

    def draw(self, runs: Sequence[DrawnRun]) -> Figure:
        """Draw one column per method and one row per category, with training losses below, for the first seed.

        A panel has histograms of the log-likelihoods of test positions after training, in nats per dimension, at the
        middle level: upwards for the model of the category, downwards for the model of all categories. The overlap is
        the common area of the histograms of normal and anomalous positions; 1 means that they are equal. The lowest
        percent of each histogram may be outside the panel. Methods without likelihoods of positions are left out.

        Raises:
            NothingToDraw: no method has likelihoods of positions in both settings.
        """
        rows = {run.folder: read_rows(Bin, run.folder) for run in of_first_seed(runs)}
        shown = [run for run in of_first_seed(runs) if rows[run.folder]]
        panels: dict[tuple[str, str, str, str], dict[str, Rows]] = {}
        for run in shown:
            key = (run.cell.dataset, run.cell.category, run.cell.method, run.cell.backbone)
            panels.setdefault(key, {})[run.cell.setting] = rows[run.folder]
        panels = {key: by_setting for key, by_setting in panels.items() if set(by_setting) == set(_SETTINGS)}
        categories = list(dict.fromkeys(key[:2] for key in panels))
        titles = {(run.cell.method, run.cell.backbone): run.title for run in shown}
        methods = {key: title for key, title in titles.items() if key in {panel[2:] for panel in panels}}
        if not methods:
            raise NothingToDraw(
                "a figure of kind 'homogeneous_mapping' needs a method with likelihoods of positions, such as cflow or "
                "fastflow, in the settings one-class and unified, and masks"
            )
        size = (3.4 * len(methods) + 0.6, 1.9 * len(categories) + 2.6)
        ratios = [*([1.0] * len(categories)), 1.2]
        figure = new_figure(*size)
        axes = figure.subplots(len(ratios), len(methods), squeeze=False, height_ratios=ratios)
        for column, (method, title) in zip(axes.T, methods.items(), strict=True):
            for axis, category in zip(column, categories, strict=False):
                if (*category, *method) in panels:
                    _draw_histograms(axis, panels[*category, *method])
                if method == next(iter(methods)):
                    axis.set_ylabel("\n".join(category), fontsize=8)
            column[0].set_title(title, fontsize=8)
            column[-2].set_xlabel("log-likelihood in nats per dimension", fontsize=8)
            _draw_losses(column[-1], [run for run in shown if (run.cell.method, run.cell.backbone) == method])
        axes[-1, 0].set_ylabel("training loss", fontsize=8)
        _legend(figure)
        return figure


def _draw_histograms(axis: Axes, by_setting: dict[str, Rows]) -> None:
    import numpy as np

    left = []
    for setting, rows in by_setting.items():
        level = max(row.level for row in rows) // 2
        after = [row for row in rows if row.moment == "after" and row.level == level]
        shares = {}
        for group in _GROUPS:
            bins = [row for row in after if row.group == group]
            edges = [row.left for row in bins] + [row.right for row in bins[-1:]]
            shares[group] = np.array([row.share for row in bins])
            if bins:
                heights = _SETTINGS[setting] * shares[group]
                axis.stairs(heights, edges, fill=True, color=COLORS[group], alpha=_ALPHA)
                axis.stairs(heights, edges, color=COLORS[group], lw=0.8)
                left.append(edges[int(np.searchsorted(shares[group].cumsum(), _CUT))])
        if all(len(values) for values in shares.values()):
            overlap = np.minimum(*shares.values()).sum()
            y, side = (0.95, "top") if _SETTINGS[setting] > 0 else (0.05, "bottom")
            axis.text(0.03, y, f"{setting}, overlap {overlap:.2f}", transform=axis.transAxes, va=side, fontsize=7)
    largest = 1.25 * max(abs(value) for value in axis.dataLim.intervaly)
    axis.set_ylim(-largest, largest)
    if left:
        right = axis.get_xlim()[1]
        axis.set_xlim(min(left) - 0.03 * (right - min(left)), right)
    axis.axhline(0, color="black", lw=0.6)
    axis.set_yticks([])
    axis.tick_params(labelsize=7)


def _draw_losses(axis: Axes, runs: Sequence[DrawnRun]) -> None:
    """Draw the loss of each one-class model, and the loss of the model of all categories once."""
    for run in {run.training_folder: run for run in runs}.values():
        history = read_rows(Epoch, run.training_folder)
        unified = run.cell.setting == "unified"
        color = COLORS["anomalous"] if unified else COLORS["neutral"]
        epochs, loss = [row.epoch for row in history], [row.loss for row in history]
        axis.plot(epochs, loss, color=color, ls=_STYLES[run.cell.setting], lw=1.4 if unified else 0.8)
    axis.set_xlabel("epoch", fontsize=8)
    axis.tick_params(labelsize=7)


def _legend(figure: Figure) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    patches = [Patch(color=COLORS[group], alpha=_ALPHA) for group in _GROUPS]
    one = Line2D([], [], color=COLORS["neutral"], ls=_STYLES["one-class"], lw=0.8)
    joint = Line2D([], [], color=COLORS["anomalous"], ls=_STYLES["unified"], lw=1.4)
    labels = [*(f"{group} positions" for group in _GROUPS), "loss of one category", "loss of all categories"]
    legend_above(figure, ([*patches, one, joint], labels))


FIGURE = HomogeneousMappingFigure

"""Training curves: log-likelihood over epochs, and AUROC at the kept epochs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from nfbench.config.tables import FigureConfig
from nfbench.figures._base import COLORS, Column, DrawnRun, Legend, columns_of, draw_grid
from nfbench.metrics import find_metric
from nfbench.results.files import Epoch, read_rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["FIGURE", "CurvesFigure"]

_METRICS = {"image_auroc": "#2ca02c", "pixel_auroc": "#9467bd"}


class CurvesFigure(FigureConfig):
    """Training curves: losses, held-out log-likelihoods, and AUROC at the kept epochs."""

    kind: Literal["curves"] = "curves"

    def draw(self, runs: Sequence[DrawnRun]) -> Figure:
        """Draw one row per category and one column per method and backbone, with one line per seed.

        Left axis: training loss and held-out negative log-likelihood, both in nats per dimension up to a constant.
        Right axis: AUROC of the kept checkpoints on the test set.
        """
        columns = columns_of(runs)

        def draw(axis: Axes, category_runs: Sequence[DrawnRun], column: Column) -> Legend | None:
            chosen = [run for run in category_runs if run.column == column]
            if not chosen:
                return None
            right = _draw(axis, chosen)
            if column == next(reversed(columns)):
                right.set_ylabel("AUROC in percent", fontsize=8)
            handles, labels = axis.get_legend_handles_labels()
            more_handles, more_labels = right.get_legend_handles_labels()
            return handles + more_handles, labels + more_labels

        return draw_grid(runs, columns, draw, (3.6, 2.3), ("epoch", "nats per dimension"))


def _draw(axis: Axes, runs: Sequence[DrawnRun]) -> Axes:
    """Draw one category and method; return the axis of the AUROC."""
    right = axis.twinx()
    for number, run in enumerate(runs):
        history = read_rows(Epoch, run.training_folder)
        epochs = [row.epoch for row in history]
        label: dict[str, Any] = {"label": "training loss"} if number == 0 else {}
        axis.plot(epochs, [row.loss for row in history], color=COLORS["neutral"], lw=1, **label)
        held_out = [row.val_log_likelihood for row in history if row.val_log_likelihood is not None]
        if held_out:
            # the loss omits the constant log(2 pi) / 2
            losses = [-value - 0.918938533 for value in held_out]
            label = {"label": "held-out normal images"} if number == 0 else {}
            axis.plot(epochs, losses, color=COLORS["normal"], lw=1, ls="--", **label)
        for metric, color in _METRICS.items():
            named = find_metric(metric)
            kept = {int(e): v for e, m in run.record.by_epoch.items() if (v := m.get(metric)) is not None}
            label = {"label": named.title} if number == 0 else {}
            values = [named.metric.unit.factor * value for value in kept.values()]
            right.plot(list(kept), values, ".-", color=color, lw=0.8, ms=4, **label)
    right.set_ylim(min(50, right.get_ylim()[0]), 101)
    for side in (axis, right):
        side.tick_params(labelsize=7)
    return right


FIGURE = CurvesFigure

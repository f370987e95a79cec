"""Searches: values of the trials in order, and importances of the dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from nfbench.config.tables import FigureConfig
from nfbench.core.errors import NfbenchError
from nfbench.figures._base import COLORS, DrawnRun, new_figure
from nfbench.search.record import StudyRecord, read_study

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["FIGURE", "SearchFigure"]

_JUDGED_BY = {"validation": "validation split", "test": "THE TEST SET"}


class SearchFigure(FigureConfig):
    """History of a search, and importances of its dimensions."""

    kind: Literal["search"] = "search"

    def draw(self, runs: Sequence[DrawnRun]) -> Figure:
        """Draw one row per study: its history on the left, fANOVA importances of its dimensions on the right.

        Raises:
            NfbenchError: no run has settings from a search.
        """
        searched = [(run, run.study) for run in runs if run.record.search and run.study]
        if not searched:
            raise NfbenchError("a figure of kind 'search' needs variants with a 'search' in the grid")
        studies = {path: read_study(path) for path in dict.fromkeys(path for _, path in searched)}
        for run, path in searched:
            if run.record.specs.study != studies[path].spec:
                raise NfbenchError(f"{path} is not the search behind the settings of {run.cell}; search again")
        figure = new_figure(9, 2.5 * len(studies), layout="constrained")
        axes = figure.subplots(len(studies), 2, squeeze=False, width_ratios=(3, 2))
        for (left, right), record in zip(axes, studies.values(), strict=True):
            _draw_history(left, record)
            _draw_importances(right, record)
        shown = {
            label: handle for row in axes for handle, label in zip(*row[0].get_legend_handles_labels(), strict=True)
        }
        figure.legend(
            shown.values(), shown.keys(), loc="outside upper center", ncols=len(shown), fontsize=8, frameon=False
        )
        axes[-1][0].set_xlabel("trial", fontsize=8)
        axes[-1][1].set_xlabel("share of the variance of the values", fontsize=8)
        return figure


def _draw_history(axis: Axes, record: StudyRecord) -> None:
    import numpy as np
    from matplotlib.ticker import MaxNLocator

    named = record.spec.variant.searched.judged_by
    scale = named.metric.unit.factor if named else 1
    best_so_far = np.maximum if record.study.direction == "maximize" else np.minimum
    order = {trial.number: place for place, trial in enumerate(record.trials, 1)}
    complete = [t for t in record.trials if t.state == "complete"]
    places, values = [order[t.number] for t in complete], [scale * t.value for t in complete if t.value is not None]
    axis.plot(places, values, "o", color=COLORS["normal"], ms=4, label="complete")
    axis.step(places, best_so_far.accumulate(values), where="post", color=COLORS["neutral"], lw=1, label="best so far")
    for state, marker in (("pruned", "v"), ("failed", "x")):
        ended = [order[trial.number] for trial in record.trials if trial.state == state]
        if ended:
            at_edge = axis.get_xaxis_transform()
            axis.plot(
                ended, [0.03] * len(ended), marker, color=COLORS["anomalous"], ms=4, transform=at_edge, label=state
            )
    if best := record.best:
        axis.plot(order[best.number], scale * best.value, "*", color=COLORS["pseudo"], ms=11, label="best")
    study = record.study
    title = f"{study.name}, {study.cell['dataset']} {study.cell['category']}, {record.seconds:.0f} s"
    axis.set_title(title, fontsize=8, loc="left")
    judged = f"{named.title}{named.metric.unit.suffix}\non {_JUDGED_BY[study.objective]}" if named else ""
    axis.set_ylabel(judged or "held-out log-likelihood", fontsize=7)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.tick_params(labelsize=7)


def _draw_importances(axis: Axes, record: StudyRecord) -> None:
    shares = dict(reversed(record.importances.items()))
    axis.barh(list(shares), list(shares.values()), color=COLORS["normal"], height=0.6)
    axis.set_xlim(0, 1)
    if not shares:
        axis.text(0.5, 0.5, "too few complete trials", ha="center", va="center", fontsize=8, transform=axis.transAxes)
        axis.set_yticks([])
    axis.tick_params(labelsize=7)


FIGURE = SearchFigure

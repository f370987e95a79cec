"""Requirements of experiments on the evaluation of a run: metric families to measure and models to keep.

All families are measured. A run that was evaluated before a family was added stays as it is unless a table or figure
of one of its experiments shows the family. Only the evaluation runs again then.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import get_args

from nfbench.config import Bench, Experiment, GridBlock, Kept, metrics_in
from nfbench.core.errors import NfbenchError
from nfbench.core.seals import read_sealed_values
from nfbench.metrics import find_metric
from nfbench.plan.cells import Cell
from nfbench.plan.job import Job, code_of

__all__ = ["as_measured", "asked_families", "has_cell", "is_shared", "kept_models", "times_images"]


def as_measured(job: Job, asked: Callable[[], set[str]]) -> Job:
    """Returns a finished evaluation as it was, if it lacks only new families that nothing shows.

    Args:
        job: evaluation with all families.
        asked: returns the families that tables and figures with this run show.
    """
    if job.record is None or not job.record.is_file() or job.state == "done":
        return job
    measured = _measured(job.record)
    if not set(measured) < set(job.spec.metrics) or not asked() <= set(measured):
        return job
    spec = job.spec.model_copy(update={"metrics": measured})
    earlier = replace(job, spec=spec.model_copy(update={"code": code_of(spec)}))
    return earlier if earlier.state == "done" else job


def asked_families(experiment: Experiment) -> set[str]:
    """Returns the metric families that the tables and figures of an experiment show."""
    shown = metrics_in([*experiment.tables.values(), *experiment.figures.values()])
    return {find_metric(name).family for name in shown}


def kept_models(bench: Bench, cell: Cell) -> Kept:
    """Returns the models of a run to keep after scoring, by the configuration, else by its experiments.

    A model that several cells share is always kept, since each of their evaluations reads it.
    """
    if is_shared(bench, cell):
        return "all"
    if bench.config.keep_models:
        return bench.config.keep_models
    asked = {one.keep_models for one in bench.experiments.values() if not one.runs_of and has_cell(one, cell)}
    return next((kept for kept in get_args(Kept) if kept in asked), "all")


def is_shared(bench: Bench, cell: Cell) -> bool:
    """Whether other cells are scored with the model of a cell: other categories, or other conditions of test images."""
    blocks = [block for experiment in bench.experiments.values() for block in experiment.grid if _has(block, cell)]
    others = {name for block in blocks for name in block.conditions}
    sharing = [name for name in others if replace(cell, condition=name).trained == cell.trained]
    return cell.setting == "unified" or len(sharing) > 1


def times_images(bench: Bench, cell: Cell) -> bool:
    """Whether a table or figure of an experiment with the cell shows the latency per image."""
    return any(
        one.shows_latency
        for experiment in bench.experiments.values()
        if has_cell(experiment, cell)
        for one in (*experiment.tables.values(), *experiment.figures.values())
    )


def has_cell(experiment: Experiment, cell: Cell) -> bool:
    """Whether the grid of an experiment has the cell, assuming that its category is on disk and its seed in range."""
    return any(_has(block, cell) and cell.condition in block.conditions for block in experiment.grid)


def _has(block: GridBlock, cell: Cell) -> bool:
    """Whether a block has the cell under any condition."""
    return (
        cell.setting == block.setting and cell.method in block.methods and cell.dataset in block.datasets
    ) and cell.backbone in {backbone.tag for backbone in block.backbones}


def _measured(record: Path) -> tuple[str, ...]:
    """Returns the families in the record of an evaluation; none if the record is unusable."""
    try:
        return tuple(read_sealed_values(record)["specs"]["evaluate"]["metrics"])
    except (NfbenchError, KeyError, TypeError):
        return ()

"""What experiments with a run ask of its evaluation: families of metrics to measure, and models to keep.

All families are measured. A run that was evaluated before a family was added stays as it is, unless a table or figure
of an experiment with the run asks for the family. Then its evaluation, and nothing before it, runs again.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import get_args

from nfbench.config import Bench, Experiment, Kept, metrics_in
from nfbench.core.errors import NfbenchError
from nfbench.core.seals import read_sealed_values
from nfbench.metrics import find_metric
from nfbench.plan.cells import Cell
from nfbench.plan.job import Job, code_of

__all__ = ["as_measured", "asked_families", "has_cell", "kept_models", "times_images"]


def as_measured(job: Job, asked: Callable[[], set[str]]) -> Job:
    """An evaluation as it was finished, if families that nothing asks for were added since and nothing else changed.

    Args:
        job: the evaluation, of all families.
        asked: gives the families that tables and figures with its run ask for.
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
    """Families of the metrics that the tables and figures of an experiment show."""
    shown = metrics_in([*experiment.tables.values(), *experiment.figures.values()])
    return {find_metric(name).family for name in shown}


def kept_models(bench: Bench, cell: Cell) -> Kept:
    """Models of a run that stay once they have scored: what the configuration says, else the experiments with the run.

    One model of several categories stays, since each of their evaluations reads it.
    """
    if cell.setting == "unified":
        return "all"
    if bench.config.keep_models:
        return bench.config.keep_models
    asked = {one.keep_models for one in bench.experiments.values() if not one.runs_of and has_cell(one, cell)}
    return next((kept for kept in get_args(Kept) if kept in asked), "all")


def times_images(bench: Bench, cell: Cell) -> bool:
    """Whether a table or figure of an experiment with the cell shows how long an image takes."""
    return any(
        one.shows_latency
        for experiment in bench.experiments.values()
        if has_cell(experiment, cell)
        for one in (*experiment.tables.values(), *experiment.figures.values())
    )


def has_cell(experiment: Experiment, cell: Cell) -> bool:
    """Whether the grid of an experiment has the cell, if its category is on disk and its seed is one of those."""
    return any(
        (cell.setting == block.setting and cell.method in block.methods and cell.dataset in block.datasets)
        and cell.backbone in {backbone.tag for backbone in block.backbones}
        for block in experiment.grid
    )


def _measured(record: Path) -> tuple[str, ...]:
    """The families that the record of an evaluation lists; none of a record that cannot be used."""
    try:
        return tuple(read_sealed_values(record)["specs"]["evaluate"]["metrics"])
    except (NfbenchError, KeyError, TypeError):
        return ()

"""The jobs that a cell waits for, with their logs: those that the rules of the workflow make of it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from nfbench.config import Bench
from nfbench.plan.cells import Cell, classes_of, members
from nfbench.plan.paths import Paths

__all__ = ["Job", "last_job"]


@dataclass(frozen=True)
class Job:
    """A job of the workflow.

    Attributes:
        rule: the rule that makes it.
        log: what it writes to.
        before: the jobs that it waits for itself.
    """

    rule: str
    log: Path
    before: tuple["Job", ...] = ()

    def chain(self) -> Iterator["Job"]:
        """All jobs that it waits for, in their order, and itself; one that several wait for comes as often."""
        for job in self.before:
            yield from job.chain()
        yield self


def last_job(bench: Bench, cell: Cell, available: Callable[[str], list[str]], paths: Paths) -> Job:
    """The evaluation of a cell, with all jobs before it.

    Args:
        bench: configuration and experiments.
        cell: the cell.
        available: lists the categories of a dataset that are there to be used.
        paths: where things lie.
    """
    sources = members(bench, cell.dataset, available)
    variant = bench.variant(cell.method)
    anomalies = variant.anomalies
    pseudo = anomalies.view(cell.seed) if anomalies else None

    def job(rule: str, suffix: str, *before: Job, **place: str) -> Job:
        return Job(rule, Path(paths.log(rule, suffix).format(**{**vars(cell), **place})), before)

    def extractions(*views: str | None, category: str = cell.category, backbone: str = cell.backbone) -> list[Job]:
        place = {"dataset": sources.get(category, cell.dataset), "category": category, "backbone": backbone}
        prepared = job("prepare_data", "{dataset}/{category}", **place)
        named = filter(None, views)
        return [job("extract_features", paths.features_suffix, prepared, view=view, **place) for view in named]

    def study() -> Job:
        judged = None if variant.search.objective == "log_likelihood" else "test"
        tags = [backbone.tag for backbone in variant.search.backbones]
        view = anomalies.view(0) if anomalies else None
        features = [found for tag in tags for found in extractions("train", judged, view, backbone=tag)]
        created = job("create_study", paths.study_suffix, *features)
        numbers = range(variant.search.workers)
        suffixes = [f"{paths.study_suffix}/worker{number}" for number in numbers]
        workers = [job("search_hyperparameters", suffix, created) for suffix in suffixes]
        return job("summarize_study", paths.study_suffix, *workers)

    classes = classes_of(bench, cell, available)
    learned = [found for category in classes for found in extractions("train", pseudo, category=category)]
    learned += extractions("test") if anomalies and anomalies.real else []
    learned += [study()] if variant.search else []
    trained = Job("train_flow", paths.run_log("train_flow", cell.trained), tuple(learned))
    own = extractions("train", "test", pseudo)
    return Job("evaluate_run", paths.run_log("evaluate_run", cell), (*own, trained))

"""Estimates of jobs, disk, memory and time of experiments, by stage, before anything runs."""

import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from nfbench.blocks.settings import FittedSettings, TrainedSettings
from nfbench.config import Kept, condition_of
from nfbench.plan.job import Job
from nfbench.plan.measured import is_shared, kept_models
from nfbench.plan.memory import gpu_mb, map_pixels, memory_mb
from nfbench.plan.paths import TRAINED
from nfbench.plan.specs import EvaluateSpec, ExtractSpec, PrepareSpec, ScoreSpec, Spec, TrainSpec
from nfbench.plan.supposed import SupposedPlan, count_images, images_of_view
from nfbench.results.calibration import Calibration
from nfbench.results.progress import job_seconds
from nfbench.results.sizes import ModelSize, features_size, model_size, settings_of

__all__ = ["Disk", "Foresight", "Stage", "foresee"]

_MODELS = TRAINED[:2]
_START = 3.0
"""Start-up time of a job in seconds."""


@dataclass
class Disk:
    """Bytes on disk.

    Attributes:
        features: all views that jobs still read, and those on disk; with ``keep_features: false``, the views that are
            on disk at the same time.
        passing: bytes that ``keep_features: false`` would save, if it is not set.
        kept: models that are kept at the end.
        deletable: kept models that ``keep_models: none`` would delete; models that several cells share are kept.
        all_models: models that ``keep_models: all`` would keep.
        working: largest temporary need of a training, including its output until it is scored, times the number of
            parallel trainings.
        scored: largest need of a run's scores and maps until they are evaluated, times the number of parallel
            trainings.
        there: features and models already on disk.
        free: free bytes on the disk of the results.
    """

    features: int = 0
    passing: int = 0
    kept: int = 0
    deletable: int = 0
    all_models: int = 0
    working: int = 0
    scored: int = 0
    there: int = 0
    free: int = 0

    @property
    def peak(self) -> int:
        """Largest total on disk at any time, including existing files; a run is scored before the next training."""
        return self.features + self.kept + self.working + self.scored

    @property
    def fits(self) -> bool:
        """Whether the disk has enough space for the remaining jobs."""
        return self.peak - self.there <= self.free


@dataclass
class Stage:
    """Jobs of one stage.

    Attributes:
        done: number of jobs whose results exist or are no longer needed.
        to_run: number of jobs to run.
        memory: largest memory request of a job in MB, from ``nfbench.plan.memory``; 0 if there is no estimate.
        gpu: largest GPU memory in MB, from the same estimates.
        seconds: total time of the jobs to run, run sequentially, if their time is known.
        unknown: number of jobs to run with unknown time.
        sources: sources of the times, and their numbers of jobs.
    """

    done: int = 0
    to_run: int = 0
    memory: int = 0
    gpu: int = 0
    seconds: float = 0.0
    unknown: int = 0
    sources: dict[str, int] = field(default_factory=dict)


@dataclass
class Foresight:
    """All estimates; ``absent`` names datasets that are not on disk, ``counted`` the categories by source of counts."""

    stages: dict[str, Stage]
    disk: Disk
    absent: list[str]
    counted: dict[str, int]
    kept: list[Kept]


def foresee(
    plan: SupposedPlan, experiments: Sequence[str], at_once: int = 1, calibration: Calibration | None = None
) -> Foresight:
    """Estimate all jobs of experiments.

    Args:
        plan: plan of the configuration.
        experiments: names of experiments; jobs that they share count once.
        at_once: number of parallel trainings.
        calibration: measures times that no finished job gives; None leaves them unknown.
    """
    return _Look(plan, experiments, at_once, calibration).result()


class _Look:
    def __init__(
        self, plan: SupposedPlan, experiments: Sequence[str], at_once: int, calibration: Calibration | None
    ) -> None:
        self.plan, self.at_once, self.calibration = plan, at_once, calibration
        last = [job for name in experiments for job in _last_jobs(plan, name)]
        self.jobs, needed = _reached(last, through_settled=True), _reached(last, through_settled=False)
        self.to_run = {log: job for log, job in needed.items() if not job.is_settled}
        self.images = {
            job.spec.manifest: count_images(job.spec) for job in self.jobs.values() if isinstance(job.spec, PrepareSpec)
        }
        self.rates = self._recorded()

    def result(self) -> Foresight:
        stages: dict[str, Stage] = {}
        for log, job in self.jobs.items():
            stage = stages.setdefault(job.stage, Stage())
            if log not in self.to_run:
                stage.done += 1
                continue
            stage.to_run += 1
            stage.memory = max(stage.memory, memory_mb(job.spec, 0))
            stage.gpu = max(stage.gpu, gpu_mb(job.spec))
            seconds, source = self._seconds(job)
            stage.seconds += seconds or 0.0
            stage.unknown += seconds is None
            stage.sources[source] = stage.sources.get(source, 0) + 1
        counted: dict[str, int] = {}
        for images in self.images.values():
            counted[images.source] = counted.get(images.source, 0) + 1
        read = {job.spec.dataset.dataset for job in self.jobs.values() if isinstance(job.spec, PrepareSpec)}
        absent = sorted(dataset for dataset in read if self.plan.catalogue.is_absent(dataset))
        kept = {self._kept(job) for job in self.jobs.values() if isinstance(job.spec, TrainSpec)}
        return Foresight(stages, self._disk(), absent, counted, sorted(kept))

    # --- disk ---------------------------------------------------------------------------------------------------------

    def _disk(self) -> Disk:
        disk = Disk(free=shutil.disk_usage(_existing(self.plan.paths.root)).free)
        read: dict[Path, int] = {}
        for log, job in self.jobs.items():
            if isinstance(job.spec, ExtractSpec):
                there = _bytes(Path(job.spec.features).parent.rglob("*.npy"))
                disk.there += there
                if log in self.to_run:
                    read[log] = max(there, self._features(job.spec))
                else:
                    disk.features += there
            elif isinstance(job.spec, TrainSpec):
                there, size = _bytes(Path(job.spec.run, name) for name in _MODELS), self._model(job.spec)
                runs = log in self.to_run
                stays = size.staying(self._kept(job))
                disk.there += there
                disk.kept += stays if runs else there
                disk.deletable += stays if runs and not is_shared(self.plan.bench, job.spec.cell) else 0
                disk.all_models += size.published
                if runs:
                    needs = size.working + size.published - stays
                    disk.working = max(disk.working, self.at_once * needs)
            elif isinstance(job.spec, ScoreSpec) and log in self.to_run:
                disk.scored = max(disk.scored, self.at_once * self._maps(job.spec, job))
        passing = sum(read.values()) - self._at_one_time(read)
        disk.features += sum(read.values()) - (0 if self.plan.bench.config.keep_features else passing)
        disk.passing = passing if self.plan.bench.config.keep_features else 0
        return disk

    def _at_one_time(self, read: Mapping[Path, int]) -> int:
        """Bytes of features on disk at the same time if features are deleted once no job needs them.

        With one training at a time, these are the views of a group of runs that share views, and those of the next
        group. With several, idle cores may extract all other views in the meantime.
        """
        if self.at_once > 1:
            return sum(read.values())
        runs = (job for job in self.to_run.values() if isinstance(job.spec, TrainSpec | ScoreSpec))
        shared = _joined({frozenset(one.log for one in job.chain() if one.log in read) for job in runs})
        return sum(sorted(sum(read[log] for log in views) for views in shared)[-2:])

    def _features(self, spec: ExtractSpec) -> int:
        return features_size(spec, images_of_view(spec, self.images[spec.manifest]))

    def _maps(self, spec: ScoreSpec, job: Job[Spec]) -> int:
        """Bytes of the maps of all models of a run, including log-NFA maps if the method has them."""
        trained = self._trained(job)
        kept = self._model(trained).kept if trained else 1
        images = self.images[spec.manifest]
        return 4 * map_pixels(spec.backbone, images.largest) * images.test * (kept + 2)

    def _model(self, spec: TrainSpec) -> ModelSize:
        return model_size(spec, self._train_images(spec))

    def _kept(self, job: Job[Spec]) -> Kept:
        return kept_models(self.plan.bench, job.spec.cell)  # type: ignore[attr-defined]

    def _train_images(self, spec: TrainSpec) -> int:
        """Number of normal training images of all classes, or of their tiles."""
        condition, found = condition_of(spec.cell.condition), [self.images[one.manifest] for one in spec.classes]
        return sum(condition.n_train(images.counts.train) * images.tiles(spec.backbone) for images in found)

    # --- time ---------------------------------------------------------------------------------------------------------

    def _work(self, job: Job[Spec]) -> float:
        """Work of a job, which its time is proportional to: images times epochs or models."""
        spec = job.spec
        if isinstance(spec, ExtractSpec):
            images = images_of_view(spec, self.images[spec.manifest])
            return images * (spec.anomalies.views if spec.anomalies else 1)
        if isinstance(spec, TrainSpec):
            return self._train_images(spec) * max(1, self._model(spec).epochs)
        if trained := self._trained(job):
            return self.images[spec.manifest].test * self._model(trained).kept  # type: ignore[attr-defined]
        return 1.0

    def _recorded(self) -> dict[tuple[str, ...], list[float]]:
        """Seconds per unit of work of finished jobs, by stage, method and backbone, as measured by Snakemake."""
        rates: dict[tuple[str, ...], list[float]] = {}
        root = self.plan.paths.root
        for job in self.jobs.values():
            if job.log.is_relative_to(root / "logs"):
                path = root / "benchmarks" / job.log.relative_to(root / "logs").with_suffix(".tsv")
                seconds = job_seconds(path)
                if seconds is not None:
                    rates.setdefault(_key(job), []).append(seconds / max(1.0, self._work(job)))
        return rates

    def _seconds(self, job: Job[Spec]) -> tuple[float | None, str]:
        """Seconds of a job, and their source."""
        if found := self.rates.get(_key(job)):
            return median(found) * max(1.0, self._work(job)), "finished jobs"
        if self.calibration is None:
            return None, "unknown"
        seconds = self._calibrated(job, self.calibration)
        return (None, "unknown") if seconds is None else (seconds + _START, "calibration")

    def _calibrated(self, job: Job[Spec], measured: Calibration) -> float | None:
        spec = job.spec
        if isinstance(spec, ExtractSpec):
            each = 0.0 if spec.backbone.online else measured.extraction(spec.backbone)
            return None if each is None else each * self._work(job) * max(1, spec.backbone.rotations)
        trained = spec if isinstance(spec, TrainSpec) else self._trained(job)
        if trained is None:
            return None
        settings, classes = settings_of(trained), len(trained.classes)
        model = trained.method, settings, trained.backbone, classes
        if isinstance(spec, TrainSpec):
            each = measured.training(*model)
            again = isinstance(settings, TrainedSettings) and settings.online_rotation
            again = again or trained.backbone.online or bool(trained.anomalies and trained.anomalies.online)
            extracted = measured.extraction(trained.backbone) if again else 0.0
            if each is None or extracted is None:
                return None
            return self._work(job) * (each + extracted * max(1, trained.backbone.rotations))
        images, kept = self.images[spec.manifest], self._model(trained).kept  # type: ignore[attr-defined]
        if isinstance(spec, EvaluateSpec):
            return None if measured.metrics is None else kept * measured.metrics * images.pixels
        each = measured.scoring(*model)
        thresholds = 0 if isinstance(settings, FittedSettings) else images.counts.train
        return None if each is None else kept * each * (images.test + thresholds) * images.tiles(trained.backbone)

    def _trained(self, job: Job[Spec]) -> TrainSpec | None:
        """The training that a job of a run reads; None for other jobs."""
        if not hasattr(job.spec, "manifest") or not hasattr(job.spec, "cell"):
            return None
        return next((one.spec for one in job.chain() if isinstance(one.spec, TrainSpec)), None)


def _last_jobs(plan: SupposedPlan, experiment: str) -> Iterator[Job[Spec]]:
    """Jobs of an experiment that no other job depends on."""
    config = plan.bench.experiment(experiment)
    yield from (plan.table(experiment, name) for name in config.tables)
    yield from (plan.figure(experiment, name) for name in config.figures)
    if plan.cells(experiment):
        yield from (plan.aggregate(experiment), plan.report(experiment))


def _reached(last: Iterable[Job[Spec]], *, through_settled: bool) -> dict[Path, Job[Spec]]:
    """All jobs that some jobs depend on, and these jobs, in order; optionally without those before settled ones."""
    found: dict[Path, Job[Spec]] = {}

    def visit(job: Job[Spec]) -> None:
        if job.log in found or job.log in visited:
            return
        visited.add(job.log)
        if through_settled or not job.is_settled:
            for one in job.before:
                visit(one)
        found[job.log] = job

    visited: set[Path] = set()
    for job in last:
        visit(job)
    return found


def _key(job: Job[Spec]) -> tuple[str, ...]:
    spec = job.spec
    cell = getattr(spec, "cell", None)
    if cell is not None:
        return job.stage, cell.method, cell.backbone
    return (job.stage, spec.backbone.tag) if isinstance(spec, ExtractSpec) else (job.stage,)


def _joined(groups: Iterable[frozenset[Path]]) -> list[frozenset[Path]]:
    """Merge groups that share elements until all groups are disjoint."""
    found: list[frozenset[Path]] = []
    for group in groups:
        touching = [one for one in found if one & group]
        found = [one for one in found if not one & group] + [group.union(*touching)]
    return found


def _bytes(paths: Iterable[Path]) -> int:
    return sum(path.stat().st_size for path in paths if path.is_file())


def _existing(path: Path) -> Path:
    """The folder, or its nearest existing parent."""
    path = path.absolute()
    return next(one for one in (path, *path.parents) if one.exists())

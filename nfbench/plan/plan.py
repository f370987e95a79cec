"""The plan: the graph of all jobs.

Each method of ``Plan`` returns the job for one result, with its spec and the jobs before it. Rules, ledger, ``status``,
``explain``, report and tracking are all derived from it.
"""

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

from nfbench.config import BackboneConfig, Bench, VariantConfig, check_category, condition_of, require_known
from nfbench.core.errors import NfbenchError
from nfbench.core.registry import nearest
from nfbench.metrics import families
from nfbench.plan.catalogue import Catalogue
from nfbench.plan.cells import Block, Cell, cells_of, expand_blocks
from nfbench.plan.experiment_specs import (
    AggregateSpec,
    DatasetNote,
    FigureSpec,
    ReportSpec,
    Skipped,
    TableSpec,
    TrackSpec,
)
from nfbench.plan.job import Job, code_of
from nfbench.plan.listing import list_files, token
from nfbench.plan.measured import as_measured, asked_families, has_cell
from nfbench.plan.origin import digest_of, digests_of
from nfbench.plan.paths import Paths
from nfbench.plan.skipped import skipped_cells
from nfbench.plan.specs import (
    ClassSpec,
    EvaluateSpec,
    ExtractSpec,
    PrepareSpec,
    ScoreSpec,
    SearchedBackbone,
    SearchSpec,
    Spec,
    StudySpec,
    SummarizeSpec,
    TrainSpec,
)
from nfbench.reference import published_hashes

__all__ = ["Plan"]

S = TypeVar("S", bound=Spec)
T = TypeVar("T")


def _once(method: Callable[..., T]) -> Callable[..., T]:
    """Caches the results of a method by its arguments, for the lifetime of the plan."""

    @wraps(method)
    def kept(self: "Plan", *arguments: Any) -> T:
        key = (method.__name__, *arguments)
        if key not in self._kept:
            self._kept[key] = method(self, *arguments)
        return self._kept[key]

    return kept


class Plan:
    """All jobs of a configuration.

    Args:
        bench: configuration and experiments.
    """

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.catalogue = Catalogue(bench)
        self.paths = Paths(bench.config.results_root)
        self._kept: dict[tuple[Any, ...], Any] = {}

    # --- cells ------------------------------------------------------------------------------------------------------

    @_once
    def blocks(self, experiment: str) -> list[Block]:
        """Returns the cells of an experiment as blocks, with the categories found on disk."""
        return expand_blocks(self.bench, experiment, self.catalogue.available)

    @_once
    def cells(self, experiment: str) -> list[Cell]:
        """Returns the cells of an experiment, without duplicates."""
        return cells_of(self.blocks(experiment))

    @_once
    def skipped(self, experiment: str) -> tuple[Skipped, ...]:
        """Returns the cells that an experiment omits on purpose."""
        return skipped_cells(self.bench, experiment, self.catalogue)

    # --- from images to run records ----------------------------------------------------------------------------------

    @_once
    def prepare(self, dataset: str, category: str) -> Job[PrepareSpec]:
        """Job for the manifest of a category; its spec has the state of the files. Not for unions."""
        check_category(category, where := f"dataset '{dataset}'")
        require_known([category], self.catalogue.official(dataset) or self.catalogue.available(dataset), where)
        place = {"dataset": dataset, "category": category}
        spec = PrepareSpec(
            dataset=self.bench.dataset(dataset).model_copy(update={"root": None}),
            category=category,
            root=str(self.catalogue.root(dataset)),
            miniature=self.catalogue.is_miniature(dataset),
            files=self._state_of_files(dataset, category),
            manifest=self.paths.manifest.format(**place),
        )
        return self._derived(spec, **place)

    @_once
    def extract(self, backbone: str, dataset: str, category: str, view: str) -> Job[ExtractSpec]:
        """Job for the cached features of one view of a category. Not for unions."""
        prepared = self.prepare(dataset, category)
        if view not in self.catalogue.views:
            raise NfbenchError(f"no variant uses the view '{view}'{nearest(view, self.catalogue.views)}")
        anomalies, seed = self.catalogue.views[view]
        place = {"backbone": backbone, "dataset": dataset, "category": category, "view": view}
        spec = ExtractSpec(
            manifest=prepared.spec.manifest,
            view=view,
            backbone=self._backbone(backbone),
            anomalies=anomalies,
            seed=seed,
            features=self.paths.features.format(**place),
        )
        return self._derived(spec, prepared, **place)

    @_once
    def study(self, setting: str, dataset: str, category: str, method: str) -> Job[StudySpec]:
        """Job for the description of a variant's study."""
        place = {"setting": setting, "dataset": dataset, "category": category, "method": method}
        variant = self._searched(method)
        judged = variant.searched.objective != "log_likelihood"
        pseudo = variant.anomalies and variant.anomalies.view(0)
        source = self.catalogue.source(dataset, category)
        prepared, backbones = self.prepare(source, category), []
        before: list[Job[Spec]] = [prepared]
        for backbone in variant.searched.backbones:
            views = {"features": "train", "test_features": "test" if judged else None, "pseudo": pseudo}
            jobs = {key: self.extract(backbone.tag, source, category, view) for key, view in views.items() if view}
            before += jobs.values()
            paths = {key: job.spec.features for key, job in jobs.items()}
            backbones.append(SearchedBackbone(tag=backbone.tag, **paths))
        spec = StudySpec(
            name=method,
            variant=variant.model_copy(update={"title": None}),
            setting=setting,
            dataset=dataset,
            category=category,
            reader=self.bench.dataset(source).dataset,
            manifest=prepared.spec.manifest,
            backbones=tuple(backbones),
            epochs_at_most=self._epochs_at_most,
            study=str(Path(self.paths.study("study.json").format(**place)).parent),
        )
        return self._derived(spec, *before, **place)

    @_once
    def worker(self, setting: str, dataset: str, category: str, method: str, number: int) -> Job[SearchSpec]:
        """Job for one worker of a study."""
        created = self.study(setting, dataset, category, method)
        place = {"setting": setting, "dataset": dataset, "category": category, "method": method, "worker": number}
        return self._job(SearchSpec(study=created.spec, worker=number), *created.before, created, **place)

    @_once
    def summary(self, setting: str, dataset: str, category: str, method: str) -> Job[SummarizeSpec]:
        """Job for the record of a study."""
        created = self.study(setting, dataset, category, method)
        place = {"setting": setting, "dataset": dataset, "category": category, "method": method}
        workers = [self.worker(*place.values(), number) for number in range(created.spec.variant.searched.workers)]
        return self._job(SummarizeSpec(study=created.spec), created, *workers, **place)

    @_once
    def train(self, cell: Cell) -> Job[TrainSpec]:
        """Job for the training of a cell."""
        variant, pseudo = self.bench.variant(cell.method), self._pseudo_view(cell)
        classes: list[ClassSpec] = []
        before: list[Job[Spec]] = []
        for category in self.catalogue.classes(cell):
            prepared = self.prepare(self.catalogue.source(cell.dataset, category), category)
            features = self._features(cell, category, "train")
            made = self._features(cell, category, pseudo) if pseudo else None
            before += [prepared, features, *filter(None, [made])]
            paths = {"manifest": prepared.spec.manifest, "features": features.spec.features}
            classes.append(ClassSpec(name=category, **paths, pseudo=made and made.spec.features))
        real = (variant.anomalies and variant.anomalies.real) or condition_of(cell.condition).axis == "contamination"
        tested = self._features(cell, cell.category, "test") if real else None
        place = (cell.setting, cell.dataset, cell.category, cell.method)
        searched = self.summary(*place) if variant.search else None
        spec = TrainSpec(
            cell=cell,
            method=variant.method,
            settings=variant.settings,
            anomalies=variant.anomalies,
            reader=self.bench.dataset(self.catalogue.source(cell.dataset, cell.category)).dataset,
            backbone=self._backbone(cell.backbone),
            classes=tuple(classes),
            test_features=tested and tested.spec.features,
            study=f"{searched.spec.study.study}/study.json" if searched else None,
            epochs_at_most=self._epochs_at_most,
            run=str(self.paths.run_record(cell).parent),
        )
        return self._derived(spec, *before, *filter(None, (tested, searched)), **cell.place)

    @_once
    def score(self, cell: Cell) -> Job[ScoreSpec]:
        """Job for the scores and maps of a cell's test images."""
        variant, prepared, trained = self.bench.variant(cell.method), self._prepared(cell), self.train(cell.trained)
        tested = condition_of(cell.condition).test_view
        views = {"train_features": "train", "features": tested, "pseudo": self._pseudo_view(cell)}
        features = {key: self._features(cell, cell.category, view) for key, view in views.items() if view}
        spec = ScoreSpec(
            cell=cell,
            method=variant.method,
            anomalies=variant.anomalies,
            backbone=self._backbone(cell.backbone),
            trained=trained.spec.run,
            manifest=prepared.spec.manifest,
            **{key: job.spec.features for key, job in features.items()},
            run=str(self.paths.run_record(cell).parent),
        )
        return self._derived(spec, prepared, *features.values(), trained, **cell.place)

    @_once
    def evaluate(self, cell: Cell) -> Job[EvaluateSpec]:
        """Job for the evaluation of a cell, which writes its run record."""
        prepared, scored, trained = self._prepared(cell), self.score(cell), self.train(cell.trained)
        own_name = cell.method if cell.method in self.bench.variants else None
        spec = EvaluateSpec(
            cell=cell,
            title=self.bench.variant(cell.method).title or own_name,
            trained=trained.spec.run,
            manifest=prepared.spec.manifest,
            save_maps=self.bench.config.save_maps,
            metrics=tuple(families()),
            run=scored.spec.run,
        )
        job = self._derived(spec, prepared, scored, trained, **cell.place)
        return as_measured(job, lambda: self._asked(cell))

    def _prepared(self, cell: Cell) -> Job[PrepareSpec]:
        return self.prepare(self.catalogue.source(cell.dataset, cell.category), cell.category)

    def _asked(self, cell: Cell) -> set[str]:
        """Returns the metric families that experiments with a cell show."""
        return set().union(*(self._shown(name) for name, one in self.bench.experiments.items() if has_cell(one, cell)))

    @_once
    def _shown(self, experiment: str) -> set[str]:
        return asked_families(self.bench.experiment(experiment))

    # --- from run records to what people look at ---------------------------------------------------------------------

    @_once
    def aggregate(self, experiment: str) -> Job[AggregateSpec]:
        """Job for the results and the ledger of an experiment."""
        runs = [self.evaluate(cell) for cell in self.cells(experiment)]
        spec = AggregateSpec(**self._of_experiment(experiment), skipped=self.skipped(experiment))
        return self._made(spec, *runs, experiment=experiment)

    @_once
    def table(self, experiment: str, name: str) -> Job[TableSpec]:
        """Job for a table of an experiment."""
        table = self._part("tables", experiment, name)
        before = [self.aggregate(experiment)] if table.from_runs else []
        gathered = {"origin": digest_of(before[0].spec)} if before else {"blocks": (), "origin": ""}
        spec = TableSpec(
            **self._of_experiment(experiment) | gathered,
            name=name,
            table=table,
            notes=self._notes(experiment) if table.from_runs else {},
            variants={name: self.bench.variant(name) for name, _ in table.built},
            published=published_hashes([table]),
        )
        return self._made(spec, *before, experiment=experiment, table=name)

    @_once
    def figure(self, experiment: str, name: str) -> Job[FigureSpec]:
        """Job for a figure of an experiment."""
        figure = self._part("figures", experiment, name)
        spec = FigureSpec(**self._of_experiment(experiment), name=name, figure=figure)
        return self._made(spec, self.aggregate(experiment), experiment=experiment, figure=name)

    @_once
    def report(self, experiment: str) -> Job[ReportSpec]:
        """Job for the report of an experiment."""
        config = self.bench.experiment(experiment)
        spec = ReportSpec(
            **self._of_experiment(experiment),
            title=config.title,
            tables=config.tables,
            notes=self._notes(experiment),
            published=published_hashes(config.tables.values()),
            skipped=self.skipped(experiment),
        )
        return self._made(spec, self.aggregate(experiment), experiment=experiment)

    @_once
    def track(self, experiment: str) -> Job[TrackSpec]:
        """Job for the import of an experiment into MLflow."""
        config, miniature = self.bench.experiment(experiment), self.bench.config.miniature
        spec = TrackSpec(
            **self._of_experiment(experiment),
            title=config.title,
            name=f"{experiment}-miniature" if miniature else experiment,
            studies=tuple(self.studies(experiment)),
            tables=tuple(config.tables),
            figures=tuple(config.figures),
        )
        before: list[Job[Spec]] = [*(self.table(experiment, name) for name in config.tables)]
        before += [self.figure(experiment, name) for name in config.figures]
        before += [self.report(experiment)] if self.cells(experiment) else []
        return self._job(spec, *before, experiment=experiment)

    def studies(self, experiment: str) -> list[str]:
        """Lists ``study.json`` of all searches of an experiment."""
        trainings = [self.train(cell.trained).spec for cell in self.cells(experiment)]
        return list(dict.fromkeys(spec.study for spec in trainings if spec.study))

    def outputs(self, experiment: str) -> list[str]:
        """Lists the outputs of an experiment: run records and everything built from them."""
        config = self.bench.experiment(experiment)
        files = self.paths.gathered(experiment, config.tables, config.figures)
        kinds = files if self.cells(experiment) else ("tables", "figures")
        records = [str(self.paths.run_record(cell)) for cell in self.cells(experiment)]
        return [*records, *(str(path) for kind in kinds for path in files[kind])]

    # --- parts --------------------------------------------------------------------------------------------------------

    def _job(self, spec: S, *before: Job[Spec], **place: Any) -> Job[S]:
        return Job(spec, Path(self.paths.log(spec.stage).format(**place)), before)

    def _derived(self, spec: S, *before: Job[Spec], **place: Any) -> Job[S]:
        """Returns a job whose spec contains the hashes of its code and of all jobs before it."""
        update = {"code": code_of(spec), "origin": digests_of(job.spec for job in before)}
        return self._job(spec.model_copy(update=update), *before, **place)

    def _made(self, spec: S, *before: Job[Spec], **place: Any) -> Job[S]:
        """Returns a job on all runs of an experiment, whose spec contains the hash of its code."""
        return self._job(spec.model_copy(update={"code": code_of(spec)}), *before, **place)

    def _state_of_files(self, dataset: str, category: str) -> str:
        """Returns the digest of a category's files; that in the manifest while the contents are unchanged."""
        if self.catalogue.is_miniature(dataset):
            return ""
        places = list_files(self.catalogue.reader(dataset).files(self.catalogue.root(dataset), category))
        return token(Path(self.paths.manifest_record.format(dataset=dataset, category=category)), places)

    def _features(self, cell: Cell, category: str, view: str) -> Job[ExtractSpec]:
        return self.extract(cell.backbone, self.catalogue.source(cell.dataset, category), category, view)

    @_once
    def _of_experiment(self, experiment: str) -> dict[str, Any]:
        root = str(self.paths.root)
        origin = digests_of(self.evaluate(cell).spec for cell in self.cells(experiment))
        return {"experiment": experiment, "root": root, "blocks": tuple(self.blocks(experiment)), "origin": origin}

    def _notes(self, experiment: str) -> dict[str, DatasetNote]:
        """Returns notes about the datasets of an experiment and the members of its unions."""
        notes, used = self.catalogue.notes, {block.dataset for block in self.blocks(experiment)}
        used |= {member for dataset in used if dataset in notes for member in notes[dataset].members}
        return {dataset: note for dataset, note in notes.items() if dataset in used}

    def _part(self, kind: str, experiment: str, name: str) -> Any:
        parts = getattr(self.bench.experiment(experiment), kind)
        if name not in parts:
            raise NfbenchError(
                f"experiment '{experiment}' has no {kind.removesuffix('s')} '{name}'{nearest(name, parts)}"
            )
        return parts[name]

    def _backbone(self, tag: str) -> BackboneConfig:
        if tag not in self.bench.backbones:
            raise NfbenchError(f"no experiment has the backbone '{tag}'{nearest(tag, self.bench.backbones)}")
        return self.bench.backbones[tag]

    def _pseudo_view(self, cell: Cell) -> str | None:
        """Returns the view of pseudo-anomalies that a cell is trained on; None if there is none."""
        anomalies = self.bench.variant(cell.method).anomalies
        return anomalies.view(cell.seed) if anomalies else None

    def _searched(self, method: str) -> VariantConfig:
        """Returns a variant with a search, which has few trials for a miniature."""
        variant = self.bench.variant(method)
        if variant.search is None:
            raise NfbenchError(f"variant '{method}' has no 'search'")
        if not self.bench.config.miniature:
            return variant
        few = variant.search.model_copy(update={"trials": min(variant.search.trials, 3), "workers": 1})
        return variant.model_copy(update={"search": few})

    @property
    def _epochs_at_most(self) -> int | None:
        return 1 if self.bench.config.miniature else None

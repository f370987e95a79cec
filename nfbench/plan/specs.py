"""What each stage is told: frozen models, the only form in which a job's meaning passes from the plan to its process.

The plan writes it, ``nfbench STAGE --spec`` takes it, and records keep it. It names inputs and outputs by their paths.
"""

import json
from typing import Any, ClassVar, Self

from pydantic import Field

from nfbench.backbones._base import family_of
from nfbench.config import AnomaliesConfig, BackboneConfig, DatasetConfig, VariantConfig
from nfbench.config.validation import Model, validate
from nfbench.core.errors import NfbenchError
from nfbench.core.files import read_json
from nfbench.metrics import family_modules
from nfbench.plan.cells import Cell
from nfbench.plan.paths import SCORED, TRAINED

__all__ = [
    "ClassSpec",
    "DerivedSpec",
    "EvaluateSpec",
    "ExtractSpec",
    "PrepareSpec",
    "ScoreSpec",
    "SearchSpec",
    "SearchedBackbone",
    "Spec",
    "StudySpec",
    "TrainSpec",
]


class Spec(Model):
    """What a stage is told."""

    function: ClassVar[str]
    """Module and function of ``nfbench.stages`` that it is for."""

    @property
    def stage(self) -> str:
        """Name of the rule, of the command and of the function."""
        return self.function.partition(":")[2]

    def to_json(self) -> str:
        """One line of JSON without the values that are defaults."""
        return self.model_dump_json(exclude_defaults=True)

    @classmethod
    def parse(cls, given: str) -> Self:
        """Reads a spec from JSON or from a file that contains it.

        Raises:
            NfbenchError: no JSON, or a wrong key or value.
        """
        source = "--spec" if given.lstrip().startswith("{") else given
        try:
            values = json.loads(given) if source == "--spec" else read_json(given)
        except json.JSONDecodeError as error:
            raise NfbenchError(f"{source}: not valid JSON: {error}") from None
        if not isinstance(values, dict):
            raise NfbenchError(f"{source}: expected a JSON mapping of the keys of {cls.__name__}")
        return validate(cls, values, source)

    @property
    def inputs(self) -> list[str]:
        """Paths of the files that the stage reads and another stage writes."""
        return self._inputs()

    @property
    def plugins(self) -> list[str]:
        """Modules that the stage loads by name: the code of the job includes theirs."""
        return list(dict.fromkeys(self._plugins()))

    def _inputs(self) -> list[str]:
        return []

    def _plugins(self) -> list[str]:
        return []


class DerivedSpec(Spec):
    """Part of a run: what makes it stale is part of what it is told, and so of the record of what it leaves."""

    code: str = Field("", description="hash of the code that the result follows from")
    origin: str = Field("", description="short hashes of the specs of the jobs that it follows from")


class PrepareSpec(DerivedSpec):
    """From the images of a category to its manifest."""

    function = "prepare:prepare_data"

    dataset: DatasetConfig = Field(description="reader and subset")
    category: str = Field(description="category to read")
    root: str = Field(description="folder that holds the categories")
    miniature: bool = Field(False, description="make the dataset's tiny copy in 'root' first")
    files: str = Field("", description="digest of the names, sizes and times of the category's files, if they exist")
    manifest: str = Field(description="CSV file to write; its record lies next to it")

    def _plugins(self) -> list[str]:
        return [f"nfbench.datasets.{self.dataset.dataset}"]


class ExtractSpec(DerivedSpec):
    """From the manifest of a category to the cached features of one view."""

    function = "extract:extract_features"

    manifest: str = Field(description="manifest of the category")
    view: str = Field(description="train, test, or the name of a view of pseudo-anomalies")
    backbone: BackboneConfig = Field(description="how features are made")
    anomalies: AnomaliesConfig | None = Field(None, description="of a view of pseudo-anomalies, what makes them")
    seed: int = Field(0, ge=0, description="chooses the real anomalies that pseudo-anomalies are made from")
    features: str = Field(description="meta.json to write; the levels lie next to it")

    def _inputs(self) -> list[str]:
        return [self.manifest]

    def _plugins(self) -> list[str]:
        return [family_of(self.backbone.name), *_generator(self.anomalies)]


class ClassSpec(Model):
    """Images of one class that a model is trained on."""

    name: str = Field(description="name of the class: the category")
    manifest: str = Field(description="manifest of the category")
    features: str = Field(description="meta.json of the view train")
    pseudo: str | None = Field(None, description="meta.json of the view of pseudo-anomalies, where it is cached")

    @property
    def inputs(self) -> list[str]:
        """Paths of the files that a training reads."""
        return [self.manifest, self.features, *([self.pseudo] if self.pseudo else [])]


class _CellSpec(DerivedSpec):
    """Part of a cell's run."""

    cell: Cell = Field(description="the cell; in the setting unified, that of a training has the category 'all'")
    method: str = Field(description="method behind the variant")
    anomalies: AnomaliesConfig | None = Field(None, description="anomalous images that the model is trained with")
    backbone: BackboneConfig = Field(description="backbone of the features")
    run: str = Field(description="folder to write to")

    def _plugins(self) -> list[str]:
        return [f"nfbench.methods.{self.method}", family_of(self.backbone.name), *_generator(self.anomalies)]


class TrainSpec(_CellSpec):
    """From cached features to a trained model."""

    function = "train:train_flow"

    settings: dict[str, Any] = Field(default_factory=dict, description="overrides of the method's settings")
    reader: str = Field(description="reader of the dataset, for the paper's settings by category")
    classes: tuple[ClassSpec, ...] = Field(min_length=1, description="images by class, in the order of their numbers")
    test_features: str | None = Field(None, description="meta.json of the view test, where real anomalies are learned")
    study: str | None = Field(None, description="study.json of the search that gives further settings")
    epochs_at_most: int | None = Field(None, ge=0, description="train no longer than this, for a trial run")

    def _inputs(self) -> list[str]:
        own = [path for one in self.classes for path in one.inputs]
        return [*own, *filter(None, (self.test_features, self.study))]


class ScoreSpec(_CellSpec):
    """From a trained model and cached features of a category to the scores and maps of its test images."""

    function = "score:score_run"

    trained: str = Field(description="folder of the training")
    manifest: str = Field(description="manifest of the category")
    train_features: str = Field(description="meta.json of the view train, for the fair threshold")
    features: str = Field(description="meta.json of the view test")
    pseudo: str | None = Field(None, description="meta.json of the view of pseudo-anomalies, where it is cached")

    def _inputs(self) -> list[str]:
        from_training = [f"{self.trained}/{name}" for name in TRAINED]
        return [*from_training, self.manifest, self.train_features, self.features, *filter(None, [self.pseudo])]


class EvaluateSpec(DerivedSpec):
    """From the scores and maps of a category's test images to a run record."""

    function = "evaluate:evaluate_run"

    cell: Cell = Field(description="the cell")
    title: str | None = Field(None, description="name in tables; by default the method's title")
    trained: str = Field(description="folder of the training")
    manifest: str = Field(description="manifest of the category")
    save_maps: bool = Field(False, description="keep the maps of all test images")
    metrics: tuple[str, ...] = Field((), description="families of metrics to measure, by default all")
    run: str = Field(description="folder to write to")

    def _inputs(self) -> list[str]:
        return [self.manifest, f"{self.run}/{SCORED}", *(f"{self.trained}/{name}" for name in TRAINED[-2:])]

    def _plugins(self) -> list[str]:
        return family_modules(self.metrics)


class SearchedBackbone(Model):
    """Features of one backbone that a study chooses from."""

    tag: str = Field(description="tag of the backbone")
    features: str = Field(description="meta.json of the view train")
    test_features: str | None = Field(None, description="meta.json of the view test, where trials are judged by it")
    pseudo: str | None = Field(None, description="meta.json of the view of pseudo-anomalies, where it is cached")


class StudySpec(DerivedSpec):
    """A study: the search for a variant's settings in one category."""

    function = "search:create_study"

    name: str = Field(description="name of the variant")
    variant: VariantConfig = Field(description="the variant, with its search")
    setting: str = Field("one-class", description="setting of the runs")
    dataset: str = Field(description="name of the dataset")
    category: str = Field(description="category")
    reader: str = Field(description="reader of the dataset, for the paper's settings by category")
    manifest: str = Field(description="manifest of the category")
    backbones: tuple[SearchedBackbone, ...] = Field(min_length=1, description="features by backbone")
    epochs_at_most: int | None = Field(None, ge=0, description="train no longer than this, for a trial run")
    study: str = Field(description="folder to write to")

    def _inputs(self) -> list[str]:
        by_backbone = [(one.features, one.test_features, one.pseudo) for one in self.backbones]
        return [self.manifest, *(path for paths in by_backbone for path in paths if path)]

    def _plugins(self) -> list[str]:
        search, method = self.variant.searched, f"nfbench.methods.{self.variant.method}"
        judged = family_modules([search.judged_by.family]) if search.judged_by else []
        backbones = [family_of(backbone.name) for backbone in search.backbones]
        return [method, *backbones, *_generator(self.variant.anomalies), *judged]


class SearchSpec(Spec):
    """One of the workers that share the trials of a study."""

    function = "search:search_hyperparameters"

    study: StudySpec = Field(description="the study")
    worker: int = Field(0, ge=0, description="number of the worker")

    def _inputs(self) -> list[str]:
        return [*self.study.inputs, f"{self.study.study}/description.json"]

    def _plugins(self) -> list[str]:
        return self.study.plugins


class SummarizeSpec(Spec):
    """From the ended trials of a study to its record."""

    function = "search:summarize_study"

    study: StudySpec = Field(description="the study")

    def _inputs(self) -> list[str]:
        folder, workers = self.study.study, range(self.study.variant.searched.workers)
        return [f"{folder}/description.json", *(f"{folder}/worker{number}.json" for number in workers)]


def _generator(anomalies: AnomaliesConfig | None) -> list[str]:
    """Module of the generator of pseudo-anomalies, if there is one."""
    return [f"nfbench.anomalies.{anomalies.generator}"] if anomalies and anomalies.generator else []

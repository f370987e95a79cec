"""Specs: frozen models that define the inputs, options and outputs of each stage.

A spec is all that the process of a job gets from the plan. The plan writes it, ``nfbench STAGE --spec`` reads it, and
records keep it. It names inputs and outputs by their paths.
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
    """Input of a stage."""

    function: ClassVar[str]
    """Module and function of ``nfbench.stages`` that take this spec."""

    @property
    def stage(self) -> str:
        """Name of the rule, the command and the function."""
        return self.function.partition(":")[2]

    def to_json(self) -> str:
        """Returns one line of JSON without default values."""
        return self.model_dump_json(exclude_defaults=True)

    @classmethod
    def parse(cls, given: str) -> Self:
        """Reads a spec from JSON or from a file that contains it.

        Raises:
            NfbenchError: invalid JSON, or a wrong key or value.
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
        """Paths of input files that another stage writes."""
        return self._inputs()

    @property
    def plugins(self) -> list[str]:
        """Modules that the stage loads by name; the code of the job includes theirs."""
        return list(dict.fromkeys(self._plugins()))

    def _inputs(self) -> list[str]:
        return []

    def _plugins(self) -> list[str]:
        return []


class DerivedSpec(Spec):
    """Spec with hashes of code and origin, so that a change of either makes the result stale."""

    code: str = Field("", description="hash of the code that the result depends on")
    origin: str = Field("", description="short hashes of the specs of all preceding jobs")


class PrepareSpec(DerivedSpec):
    """From the images of a category to its manifest."""

    function = "prepare:prepare_data"

    dataset: DatasetConfig = Field(description="reader and subset")
    category: str = Field(description="category to read")
    root: str = Field(description="folder with the categories")
    miniature: bool = Field(False, description="generate the dataset's tiny copy in 'root' first")
    files: str = Field("", description="digest of the names, sizes and times of the category's files, if they exist")
    manifest: str = Field(description="CSV file to write; its record lies next to it")

    def _plugins(self) -> list[str]:
        return [f"nfbench.datasets.{self.dataset.dataset}"]


class ExtractSpec(DerivedSpec):
    """From the manifest of a category to the cached features of one view."""

    function = "extract:extract_features"

    manifest: str = Field(description="manifest of the category")
    view: str = Field(description="'train', 'test', or the name of a view of pseudo-anomalies")
    backbone: BackboneConfig = Field(description="backbone of the features")
    anomalies: AnomaliesConfig | None = Field(None, description="configuration of a view of pseudo-anomalies")
    seed: int = Field(0, ge=0, description="seed that selects the real anomalies for pseudo-anomalies")
    features: str = Field(description="meta.json to write; the levels lie next to it")

    def _inputs(self) -> list[str]:
        return [self.manifest]

    def _plugins(self) -> list[str]:
        return [family_of(self.backbone.name), *_generator(self.anomalies)]


class ClassSpec(Model):
    """Training images of one class."""

    name: str = Field(description="name of the class: the category")
    manifest: str = Field(description="manifest of the category")
    features: str = Field(description="meta.json of the view train")
    pseudo: str | None = Field(None, description="meta.json of the view of pseudo-anomalies, if it is cached")

    @property
    def inputs(self) -> list[str]:
        """Files that a training reads."""
        return [self.manifest, self.features, *([self.pseudo] if self.pseudo else [])]


class _CellSpec(DerivedSpec):
    """Spec of a stage of a cell's run."""

    cell: Cell = Field(description="the cell; a training in the setting unified has the category 'all'")
    method: str = Field(description="method of the variant")
    anomalies: AnomaliesConfig | None = Field(None, description="anomalous images for training")
    backbone: BackboneConfig = Field(description="backbone of the features")
    run: str = Field(description="folder to write to")

    def _plugins(self) -> list[str]:
        return [f"nfbench.methods.{self.method}", family_of(self.backbone.name), *_generator(self.anomalies)]


class TrainSpec(_CellSpec):
    """From cached features to a trained model."""

    function = "train:train_flow"

    settings: dict[str, Any] = Field(default_factory=dict, description="overrides of the method's settings")
    reader: str = Field(description="reader of the dataset, for the paper's settings by category")
    classes: tuple[ClassSpec, ...] = Field(min_length=1, description="training images of each class, by class number")
    test_features: str | None = Field(None, description="meta.json of the view test, for learning from real anomalies")
    study: str | None = Field(None, description="study.json of the search that provides further settings")
    epochs_at_most: int | None = Field(None, ge=0, description="maximum number of epochs, for a trial run")

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
    pseudo: str | None = Field(None, description="meta.json of the view of pseudo-anomalies, if it is cached")

    def _inputs(self) -> list[str]:
        from_training = [f"{self.trained}/{name}" for name in TRAINED]
        return [*from_training, self.manifest, self.train_features, self.features, *filter(None, [self.pseudo])]


class EvaluateSpec(DerivedSpec):
    """From the scores and maps of a category's test images to a run record."""

    function = "evaluate:evaluate_run"

    cell: Cell = Field(description="the cell")
    title: str | None = Field(None, description="name in tables; default: the method's title")
    trained: str = Field(description="folder of the training")
    manifest: str = Field(description="manifest of the category")
    save_maps: bool = Field(False, description="keep the maps of all test images")
    metrics: tuple[str, ...] = Field((), description="metric families to measure; default: all")
    run: str = Field(description="folder to write to")

    def _inputs(self) -> list[str]:
        return [self.manifest, f"{self.run}/{SCORED}", *(f"{self.trained}/{name}" for name in TRAINED[-2:])]

    def _plugins(self) -> list[str]:
        return family_modules(self.metrics)


class SearchedBackbone(Model):
    """Features of one backbone in a search."""

    tag: str = Field(description="tag of the backbone")
    features: str = Field(description="meta.json of the view train")
    test_features: str | None = Field(None, description="meta.json of the view test, if trials are judged on it")
    pseudo: str | None = Field(None, description="meta.json of the view of pseudo-anomalies, if it is cached")


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
    epochs_at_most: int | None = Field(None, ge=0, description="maximum number of epochs, for a trial run")
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
    """From the finished trials of a study to its record."""

    function = "search:summarize_study"

    study: StudySpec = Field(description="the study")

    def _inputs(self) -> list[str]:
        folder, workers = self.study.study, range(self.study.variant.searched.workers)
        return [f"{folder}/description.json", *(f"{folder}/worker{number}.json" for number in workers)]


def _generator(anomalies: AnomaliesConfig | None) -> list[str]:
    """Returns the module of the generator of pseudo-anomalies, if there is one."""
    return [f"nfbench.anomalies.{anomalies.generator}"] if anomalies and anomalies.generator else []

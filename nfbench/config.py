"""The configuration: models of ``config.yaml`` and of the experiment files, and what the two say together.

Every key has its default and meaning here and nowhere else; the JSON schema is generated from these models.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from nfbench.errors import NfbenchError
from nfbench.registry import nearest

__all__ = [
    "BackboneConfig",
    "Bench",
    "Config",
    "DatasetConfig",
    "Experiment",
    "FigureConfig",
    "GridBlock",
    "TableConfig",
    "VariantConfig",
    "load_bench",
    "validate",
]

Setting = Literal["one-class", "unified", "few-anomaly"]
Name = str
_NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DatasetConfig(_Model):
    """A dataset under a name of its own: a folder of the user's, or a stated subset of a known dataset."""

    dataset: str = Field("folder", description="reader: mvtec_ad, elpv, synthetic, or folder for any MVTec layout")
    root: str | None = Field(None, description="folder with the categories; by default <data_root>/<dataset>")
    max_train: int | None = Field(None, ge=1, description="at most so many normal training images per category")
    max_test_normal: int | None = Field(None, ge=1, description="at most so many normal test images per category")
    max_test_anomalous: int | None = Field(None, ge=1, description="at most so many anomalous test images per category")

    @property
    def is_subset(self) -> bool:
        """Whether images of the official split are left out."""
        return any((self.max_train, self.max_test_normal, self.max_test_anomalous))


class VariantConfig(_Model):
    """A method with named overrides of its settings."""

    method: str = Field(description="name of the method")
    settings: dict[str, Any] = Field(default_factory=dict, description="overrides of the method's settings")
    title: str | None = Field(None, description="name in tables; by default the method's title and the variant's name")


class BackboneConfig(_Model):
    """A backbone at an input size."""

    name: str = Field(description="name of the backbone, with its weight tag")
    input_size: int = Field(256, ge=32, description="side of the square input in pixels")
    levels: tuple[int, ...] = Field((1, 2, 3), min_length=1, description="levels, fine to coarse")
    weights: str = Field("default", description="default, package, hub, random, or the path of a weights file")

    @property
    def tag(self) -> str:
        """Name in paths: ``name@size``, with the levels where they are not 1 to 3, and ``random`` for test weights."""
        levels = "" if self.levels == (1, 2, 3) else "-l" + "".join(map(str, self.levels))
        return f"{self.name}@{self.input_size}{levels}{'-random' if self.weights == 'random' else ''}"


class GridBlock(_Model):
    """A full product of cells."""

    setting: Setting = Field("one-class", description="one-class, unified or few-anomaly")
    methods: tuple[str, ...] = Field(min_length=1, description="methods and variants")
    backbones: tuple[BackboneConfig, ...] = Field(min_length=1, description="backbones")
    datasets: dict[str, Literal["available"] | tuple[str, ...]] = Field(
        description="categories by dataset; 'available' takes those found on disk"
    )

    @field_validator("backbones", mode="before")
    @classmethod
    def _names_are_backbones(cls, value: Any) -> Any:
        return [{"name": item} if isinstance(item, str) else item for item in value]


class TableConfig(_Model):
    """A table: categories as rows, methods as columns, published values beside measured ones."""

    title: str = Field(description="caption")
    metric: str = Field(description="metric, as run.json names it")
    metric_of: dict[str, str] = Field(
        default_factory=dict, description="other metrics for single methods, where their paper scores them otherwise"
    )
    selections: tuple[Literal["last", "val", "oracle"], ...] = Field(
        ("last",), min_length=1, description="which checkpoint is scored; several stand side by side"
    )
    published: str | None = Field(None, description="file of nfbench/reference without its ending")
    tolerance: tuple[float, float] = Field(
        (0.5, 1.5), description="points within which a cell is 'reproduced' and 'close'; beyond, it is 'off'"
    )


class FigureConfig(_Model):
    """A figure of an experiment."""

    kind: Literal["maps", "histograms", "curves", "segmentation", "thresholds", "calibration"] = Field(
        description="anomaly maps, score histograms, training curves, a contrario segmentation, mean IoU by threshold, "
        "quantiles of normal latents"
    )


class Experiment(_Model):
    """A reproduced table or a study: its cells, and the tables and figures that come of them."""

    name: str = Field("", pattern=r"^$|" + _NAME_PATTERN, description="name of the target; by default the file's name")
    title: str = Field(description="one line that says what is shown")
    seeds: int = Field(1, ge=1, description="seeds 0 to n - 1")
    datasets: dict[Name, DatasetConfig] = Field(default_factory=dict, description="datasets defined here")
    variants: dict[Name, VariantConfig] = Field(default_factory=dict, description="variants defined here")
    grid: tuple[GridBlock, ...] = Field(min_length=1, description="blocks of cells")
    tables: dict[Name, TableConfig] = Field(default_factory=dict, description="tables by name")
    figures: dict[Name, FigureConfig] = Field(default_factory=dict, description="figures by name")


class Config(_Model):
    """The keys of ``config.yaml``."""

    experiment: str = Field("quickstart", description="the experiment that a run without a target makes")
    data_root: str = Field("data", description="folder that holds one folder per dataset")
    results_root: str = Field("results", description="folder that takes all that is made")
    seeds: int | None = Field(None, ge=1, description="number of seeds, instead of the experiment's own")
    categories: tuple[str, ...] | None = Field(None, description="take only these categories")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where flows train: auto takes a GPU if any")
    save_maps: bool = Field(False, description="keep the anomaly maps of all test images, not of examples only")
    datasets: dict[Name, DatasetConfig] = Field(default_factory=dict, description="your own folders and subsets")
    variants: dict[Name, VariantConfig] = Field(default_factory=dict, description="your own variants of methods")

    @field_validator("categories", mode="before")
    @classmethod
    def _split_categories(cls, value: Any) -> Any:
        return value.split(",") if isinstance(value, str) else value


class Bench(_Model):
    """Configuration and experiments together, with the datasets, variants and backbones that all of them define."""

    config: Config
    experiments: dict[str, Experiment]
    datasets: dict[str, DatasetConfig]
    variants: dict[str, VariantConfig]
    backbones: dict[str, BackboneConfig]

    def experiment(self, name: str) -> Experiment:
        """The experiment of this name; an error names the nearest one."""
        if name not in self.experiments:
            raise NfbenchError(f"unknown experiment '{name}'{nearest(name, self.experiments)}")
        return self.experiments[name]

    def dataset(self, name: str) -> DatasetConfig:
        """A dataset by its name: one defined in config or experiments, or a reader with its defaults."""
        return self.datasets.get(name) or DatasetConfig(dataset=name)

    def dataset_root(self, name: str) -> Path:
        """Folder that holds the categories of a dataset."""
        dataset = self.dataset(name)
        return Path(dataset.root) if dataset.root else Path(self.config.data_root) / dataset.dataset

    def variant(self, name: str) -> VariantConfig:
        """A variant by its name: one defined in config or experiments, or a method with its defaults."""
        return self.variants.get(name) or VariantConfig(method=name)


def validate(model: type[_Model], values: Mapping[str, Any], source: str) -> Any:
    """Validates ``values``; the error names the source, the key, and the nearest right key.

    Raises:
        NfbenchError: an unknown key, a missing key, or a value of the wrong type or range.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise NfbenchError("; ".join(_describe(entry, model, source) for entry in error.errors())) from None


def _describe(entry: Mapping[str, Any], model: type[BaseModel], source: str) -> str:
    key = ".".join(str(part) for part in entry["loc"])
    if entry["type"] != "extra_forbidden":
        return f"{source}: '{key}': {entry['msg']} (got {entry['input']!r})"
    return f"{source}: unknown key '{key}'{nearest(str(entry['loc'][-1]), _keys_at(model, entry['loc'][:-1]))}"


def _keys_at(model: type[BaseModel], location: tuple[Any, ...]) -> list[str]:
    """Known keys of the nested model at a location of an error."""
    for part in location:
        field = model.model_fields.get(part)
        annotation = field.annotation if field else None
        nested = [kind for kind in _nested_types(annotation) if isinstance(kind, type) and issubclass(kind, BaseModel)]
        model = nested[0] if nested else model
    return list(model.model_fields)


def _nested_types(annotation: Any) -> list[Any]:
    inner = [found for part in getattr(annotation, "__args__", ()) for found in _nested_types(part)]
    return [annotation, *inner]


def load_bench(values: Mapping[str, Any], experiments_folder: Path) -> Bench:
    """Reads all experiments and joins them with the configuration.

    Args:
        values: the keys of ``config.yaml``, with overrides from the command line.
        experiments_folder: folder of experiment files.

    Raises:
        NfbenchError: a file or key is wrong, or two experiments give one name two meanings.
    """
    config = validate(Config, values, "config.yaml")
    experiments = {path.stem: _read_experiment(path) for path in sorted(experiments_folder.glob("*.yaml"))}
    datasets, variants, backbones = dict(config.datasets), dict(config.variants), {}
    for name, experiment in experiments.items():
        _merge(datasets, experiment.datasets, "dataset", name)
        _merge(variants, experiment.variants, "variant", name)
        found = {backbone.tag: backbone for block in experiment.grid for backbone in block.backbones}
        _merge(backbones, found, "backbone", name)
    return Bench(config=config, experiments=experiments, datasets=datasets, variants=variants, backbones=backbones)


def _read_experiment(path: Path) -> Experiment:
    try:
        values = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise NfbenchError(f"{path}: not valid YAML: {error}") from None
    return validate(Experiment, {"name": path.stem, **(values or {})}, str(path))


def _merge(known: dict[str, Any], added: Mapping[str, Any], kind: str, experiment: str) -> None:
    for name, value in added.items():
        if known.setdefault(name, value) != value:
            raise NfbenchError(
                f"experiment '{experiment}' gives the {kind} '{name}' another meaning than config.yaml or another "
                f"experiment does ({json.dumps(value.model_dump())} here); give it a name of its own"
            )

"""The configuration: models of ``config.yaml`` and of the experiment files, and what the two say together.

Every key has its default and meaning here and nowhere else; the JSON schema is generated from these models.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError, field_validator, model_validator
from pydantic_core import PydanticCustomError

from nfbench.errors import NfbenchError
from nfbench.registry import nearest

__all__ = [
    "AvailableAmong",
    "BackboneConfig",
    "BackbonesTableConfig",
    "Bench",
    "Config",
    "DatasetConfig",
    "Experiment",
    "FigureConfig",
    "GridBlock",
    "MethodsTableConfig",
    "ParametersTableConfig",
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
    levels: tuple[int, ...] | None = Field(
        None, min_length=1, description="levels, fine to coarse, by default the backbone's own"
    )
    scales: tuple[int, ...] | None = Field(
        None, min_length=1, description="divisors of the input's side: the levels are taken at each of these sizes"
    )
    interpolation: Literal["nearest", "bilinear", "bilinear_aligned", "bicubic_aligned"] | None = Field(
        None, description="how the input is scaled, by default the backbone's own"
    )
    padding: Literal["zeros", "reflect"] = Field("zeros", description="of all convolutions")
    rotations: int = Field(0, ge=0, description="rotated views of each image, for methods that take views")
    pooled: bool = Field(False, description="keep the global average of each level only")
    weights: str = Field("default", description="default, package, hub, random, or the path of a weights file")

    @property
    def tag(self) -> str:
        """Name in paths: ``name@size``, and whatever is not the backbone's own."""
        parts = [
            "l" + "".join(map(str, self.levels)) if self.levels else "",
            "s" + ".".join(map(str, self.scales)) if self.scales else "",
            self.interpolation or "",
            "reflect" if self.padding == "reflect" else "",
            f"r{self.rotations}" if self.rotations else "",
            "pooled" if self.pooled else "",
            "random" if self.weights == "random" else "",
        ]
        return "-".join([f"{self.name}@{self.input_size}", *filter(None, parts)])


class AvailableAmong(_Model):
    """Categories that a block takes where they are found on disk, and leaves out where not."""

    available: tuple[str, ...] = Field(min_length=1, description="categories to take where they are on disk")


class GridBlock(_Model):
    """A full product of cells."""

    setting: Setting = Field("one-class", description="one-class, unified or few-anomaly")
    methods: tuple[str, ...] = Field(min_length=1, description="methods and variants")
    backbones: tuple[BackboneConfig, ...] = Field(min_length=1, description="backbones")
    datasets: dict[str, Literal["available"] | AvailableAmong | tuple[str, ...]] = Field(
        description="categories by dataset; 'available' takes those found on disk, {available: [...]} those of the "
        "list that are found on disk"
    )

    @field_validator("backbones", mode="before")
    @classmethod
    def _names_are_backbones(cls, value: Any) -> Any:
        return [{"name": item} if isinstance(item, str) else item for item in value]


Selection = Literal["last", "val", "oracle"]


class TableConfig(_Model):
    """A table of results: categories as rows, methods as columns, published values beside measured ones."""

    kind: Literal["results"] = "results"
    title: str = Field(description="caption")
    metric: str = Field(description="metric, as run.json names it")
    metric_of: dict[str, str] = Field(
        default_factory=dict, description="other metrics for single methods, where their paper scores them otherwise"
    )
    selections: tuple[Selection, ...] = Field(
        ("last",), min_length=1, description="which checkpoint is scored; several stand side by side"
    )
    published: str | None = Field(None, description="file of nfbench/reference without its ending")
    tolerance: tuple[float, float] = Field(
        (0.5, 1.5), description="points within which a cell is 'reproduced' and 'close'; beyond, it is 'off'"
    )


class BackboneRow(_Model):
    """A row of a table of backbones."""

    backbone: BackboneConfig = Field(description="backbone of the grid, the same keys as there")
    title: str | None = Field(None, description="name of the row, by default the backbone's tag")
    published: dict[str, str] | None = Field(
        None, description="which row of the published table: its columns by name, such as {backbone: ResNet18}"
    )


class BackbonesTableConfig(_Model):
    """A table of backbones or level sets: they are the rows, metrics the columns, cells means over categories."""

    kind: Literal["backbones"] = "backbones"
    title: str = Field(description="caption")
    metrics: tuple[str, ...] = Field(min_length=1, description="metrics, as run.json names them")
    rows: tuple[BackboneRow, ...] = Field(min_length=1, description="backbones in the order of the rows")
    selections: tuple[Selection, ...] = Field(
        ("last",), min_length=1, description="which checkpoint is scored; several stand side by side"
    )
    published: str | None = Field(None, description="file of nfbench/reference without its ending")
    tolerance: tuple[float, float] = Field(
        (0.5, 1.5), description="points within which a cell is 'reproduced' and 'close'; beyond, it is 'off'"
    )


class MethodsTableConfig(_Model):
    """A table of methods: they are the rows, metrics and costs the columns, cells means over categories."""

    kind: Literal["methods"] = "methods"
    title: str = Field(description="caption")
    metrics: tuple[str, ...] = Field(min_length=1, description="metrics, as run.json names them")
    costs: tuple[Literal["parameters", "train_seconds", "score_images_per_second", "peak_memory_mb"], ...] = Field(
        (), description="what a run cost, in columns after the metrics"
    )
    selection: Selection = Field("last", description="which checkpoint is scored")


class CountedModel(_Model):
    """A row of a table of parameters: a model that is built to be counted."""

    method: str = Field(description="method or variant")
    backbone: BackboneConfig = Field(description="backbone, levels and input size that give the shapes")
    published: dict[str, str] | None = Field(
        None, description="which row of the published table: its columns by name, such as {backbone: ResNet18}"
    )
    explanation: str = Field("", description="what to know of this count, above all where it is not the published one")


class ParametersTableConfig(_Model):
    """A table of trainable parameters, counted in models that are built, beside published numbers; needs no runs."""

    kind: Literal["parameters"] = "parameters"
    title: str = Field(description="caption")
    published: str | None = Field(None, description="file of nfbench/reference without its ending")
    rows: tuple[CountedModel, ...] = Field(min_length=1, description="models in the order of the rows")


def _kind(table: Any) -> Any:
    return table.get("kind", "results") if isinstance(table, Mapping) else getattr(table, "kind", "results")


AnyTable = Annotated[
    Annotated[TableConfig, Tag("results")]
    | Annotated[BackbonesTableConfig, Tag("backbones")]
    | Annotated[MethodsTableConfig, Tag("methods")]
    | Annotated[ParametersTableConfig, Tag("parameters")],
    Discriminator(
        _kind,
        custom_error_type="unknown_kind",
        custom_error_message="'kind' of a table is results, backbones, methods or parameters",
    ),
]


class FigureConfig(_Model):
    """A figure of an experiment."""

    kind: Literal["maps", "histograms", "curves", "segmentation", "thresholds", "calibration", "speed"] = Field(
        description="anomaly maps, score histograms, training curves, a contrario segmentation, mean IoU by threshold, "
        "quantiles of normal latents, image AUROC by speed of inference"
    )


class Experiment(_Model):
    """A reproduced table or a study: its cells, and the tables and figures that come of them."""

    name: str = Field("", pattern=r"^$|" + _NAME_PATTERN, description="name of the target; by default the file's name")
    title: str = Field(description="one line that says what is shown")
    seeds: int = Field(1, ge=1, description="seeds 0 to n - 1")
    datasets: dict[Name, DatasetConfig] = Field(default_factory=dict, description="datasets defined here")
    variants: dict[Name, VariantConfig] = Field(default_factory=dict, description="variants defined here")
    grid: tuple[GridBlock, ...] = Field((), description="blocks of cells; tables of parameters need none")
    runs_of: str | None = Field(None, description="experiment whose grid and seeds this one takes, to share its runs")
    tables: dict[Name, AnyTable] = Field(default_factory=dict, description="tables by name")
    figures: dict[Name, FigureConfig] = Field(default_factory=dict, description="figures by name")

    @model_validator(mode="after")
    def _runs_are_asked_for(self) -> "Experiment":
        needed = [name for name, table in self.tables.items() if table.kind != "parameters"] + list(self.figures)
        if self.grid and self.runs_of:
            raise PydanticCustomError("two_grids", "'grid' and 'runs_of' exclude each other")
        if not self.grid and not self.runs_of and (needed or not self.tables):
            what = f"; '{needed[0]}' is made of its runs" if needed else ""
            raise PydanticCustomError("missing_grid", "'grid' is missing" + what)
        return self


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
    keys, nested = _locate(model, entry["loc"])
    if not keys:
        return f"{source}: {entry['msg']}"
    key = ".".join(keys)
    if entry["type"] != "extra_forbidden":
        return f"{source}: '{key}': {entry['msg']} (got {entry['input']!r})"
    return f"{source}: unknown key '{key}'{nearest(keys[-1], nested.model_fields)}"


def _locate(model: type[BaseModel], location: tuple[Any, ...]) -> tuple[list[str], type[BaseModel]]:
    """The keys that lead to an error, and the innermost model on the way.

    pydantic's location of an error names the kind of a table too, which is no key; it tells which model is meant.
    """
    keys, models = [], [model]
    for part in location:
        of_kind = [
            found for found in models if "kind" in found.model_fields and found.model_fields["kind"].default == part
        ]
        if of_kind:
            models = of_kind
            continue
        keys.append(str(part))
        field = models[0].model_fields.get(part)
        annotation = field.annotation if field else None
        nested = [kind for kind in _nested_types(annotation) if isinstance(kind, type) and issubclass(kind, BaseModel)]
        models = nested or models
    return keys, models[0]


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
    read = {path.stem: _read_experiment(path) for path in sorted(experiments_folder.glob("*.yaml"))}
    experiments = {name: _share_runs(experiment, read) for name, experiment in read.items()}
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


def _share_runs(experiment: Experiment, others: Mapping[str, Experiment]) -> Experiment:
    if experiment.runs_of is None:
        return experiment
    if experiment.runs_of not in others:
        hint = nearest(experiment.runs_of, others)
        raise NfbenchError(
            f"experiment '{experiment.name}': 'runs_of' names no experiment '{experiment.runs_of}'{hint}"
        )
    source = others[experiment.runs_of]
    return experiment.model_copy(update={"grid": source.grid, "seeds": source.seeds, "runs_of": None})


def _merge(known: dict[str, Any], added: Mapping[str, Any], kind: str, experiment: str) -> None:
    for name, value in added.items():
        if known.setdefault(name, value) != value:
            raise NfbenchError(
                f"experiment '{experiment}' gives the {kind} '{name}' another meaning than config.yaml or another "
                f"experiment does ({json.dumps(value.model_dump())} here); give it a name of its own"
            )

"""``config.yaml`` and the experiment files, and what the two say together."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from nfbench.config.backbone import BackboneConfig
from nfbench.config.grid import Categories, DatasetConfig, GridBlock, VariantConfig
from nfbench.config.tables import AnyTable, FigureConfig, ParametersTableConfig
from nfbench.config.validation import Model, validate
from nfbench.core.errors import NfbenchError
from nfbench.core.registry import nearest

__all__ = ["Bench", "Config", "Experiment", "load_bench"]

Name = str
_NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"


class Experiment(Model):
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


class Config(Model):
    """The keys of ``config.yaml``."""

    experiment: str = Field("quickstart", description="the experiment that a run without a target makes")
    data_root: str = Field("data", description="folder that holds one folder per dataset")
    fetch: bool = Field(False, description="download datasets that are named and not below data_root")
    results_root: str = Field("results", description="folder that takes all that is made")
    seeds: int | None = Field(None, ge=1, description="number of seeds, instead of the experiment's own")
    categories: tuple[str, ...] | None = Field(None, description="take only these categories")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where flows train: auto takes a GPU if any")
    miniature: bool = Field(
        False, description="try experiments without their data: tiny made-up images, random weights, one epoch"
    )
    save_maps: bool = Field(False, description="keep the anomaly maps of all test images, not of examples only")
    datasets: dict[Name, DatasetConfig] = Field(default_factory=dict, description="your own folders and subsets")
    variants: dict[Name, VariantConfig] = Field(default_factory=dict, description="your own variants of methods")

    @field_validator("categories", mode="before")
    @classmethod
    def _split_categories(cls, value: Any) -> Any:
        return value.split(",") if isinstance(value, str) else value


class Bench(Model):
    """Configuration and experiments together, with the datasets, variants and backbones that all of them define.

    ``unified`` has the categories by dataset that one model is trained on in the setting unified.
    """

    config: Config
    experiments: dict[str, Experiment]
    datasets: dict[str, DatasetConfig]
    variants: dict[str, VariantConfig]
    backbones: dict[str, BackboneConfig]
    unified: dict[str, Categories]

    def experiment(self, name: str) -> Experiment:
        """The experiment of this name; an error names the nearest one."""
        if name not in self.experiments:
            raise NfbenchError(f"unknown experiment '{name}'{nearest(name, self.experiments)}")
        return self.experiments[name]

    def owner(self, kind: Literal["tables", "figures"], name: str) -> Experiment:
        """The experiment that has a table or figure; an error names the nearest one."""
        owners = {found: e for e in self.experiments.values() for found in getattr(e, kind)}
        if name not in owners:
            raise NfbenchError(f"no experiment has a {kind.removesuffix('s')} '{name}'{nearest(name, owners)}")
        return owners[name]

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


def load_bench(values: Mapping[str, Any], experiments_folder: Path) -> Bench:
    """Reads all experiments and joins them with the configuration.

    Args:
        values: the keys of ``config.yaml``, with overrides from the command line.
        experiments_folder: folder of experiment files.

    Raises:
        NfbenchError: a file or key is wrong, or two experiments give one name two meanings.
    """
    config = validate(Config, values, "config.yaml")
    if config.miniature:  # beside the results, and of one seed
        root = str(Path(config.results_root) / "miniature")
        config = config.model_copy(update={"results_root": root, "seeds": config.seeds or 1})
    paths = sorted(experiments_folder.glob("*.yaml"))
    read = {path.stem: _read_experiment(path, config.miniature) for path in paths}
    experiments = {name: _share_runs(experiment, read) for name, experiment in read.items()}
    own = _with_random_weights(config.variants) if config.miniature else config.variants
    datasets, variants, backbones, unified = dict(config.datasets), dict(own), {}, {}
    for name, experiment in experiments.items():
        owner = f"experiment '{name}'"
        _merge(datasets, experiment.datasets, "dataset", owner)
        _merge(variants, experiment.variants, "variant", owner)
        found = {backbone.tag: backbone for block in experiment.grid for backbone in block.backbones}
        _merge(backbones, found, "backbone", owner)
        for block in experiment.grid:
            if block.setting == "unified":
                _merge(unified, block.datasets, "categories of one model of", owner)
    for name, variant in variants.items():
        searched = variant.search.backbones if variant.search else ()
        _merge(backbones, {backbone.tag: backbone for backbone in searched}, "backbone", f"variant '{name}'")
    return Bench(
        config=config,
        experiments=experiments,
        datasets=datasets,
        variants=variants,
        backbones=backbones,
        unified=unified,
    )


def _read_experiment(path: Path, miniature: bool) -> Experiment:
    try:
        values = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise NfbenchError(f"{path}: not valid YAML: {error}") from None
    experiment = validate(Experiment, {"name": path.stem, **(values or {})}, str(path))
    return _with_random_weights(experiment) if miniature else experiment


def _with_random_weights(part: Any) -> Any:
    """A model of the configuration with random weights in all backbones of its runs."""
    if isinstance(part, BackboneConfig):
        return part.model_copy(update={"weights": "random"})
    if isinstance(part, tuple):
        return tuple(map(_with_random_weights, part))
    if isinstance(part, dict):
        return {name: _with_random_weights(value) for name, value in part.items()}
    if not isinstance(part, Model) or isinstance(part, ParametersTableConfig):
        return part
    return part.model_copy(update={name: _with_random_weights(getattr(part, name)) for name in type(part).model_fields})


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


def _merge(known: dict[str, Any], added: Mapping[str, Any], kind: str, owner: str) -> None:
    for name, value in added.items():
        if known.setdefault(name, value) != value:
            raise NfbenchError(
                f"{owner} gives the {kind} '{name}' another meaning than config.yaml or another "
                f"experiment does ({json.dumps(value, default=Model.model_dump)} here); give it a name of its own"
            )

"""Models of ``config.yaml`` and of an experiment file, and the two combined."""

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from nfbench.config.backbone import BackboneConfig
from nfbench.config.grid import Categories, DatasetConfig, Datasets, GridBlock, VariantConfig, Variants
from nfbench.config.names import FolderPath, Name, Names
from nfbench.config.tables import AnyFigure, AnyTable
from nfbench.config.validation import Model
from nfbench.core.errors import NfbenchError
from nfbench.core.registry import exported, nearest

__all__ = ["Bench", "Config", "Experiment", "Kept"]

Kept = Literal["all", "last", "none"]
"""Models of a run that are kept after scoring: those of all checkpoints, the last epoch's, or none."""


class Experiment(Model):
    """A reproduced table or a study: its cells, tables and figures."""

    name: Name = Field("", description="name of the target; equals the file name")
    title: str = Field(description="one line that says what the experiment shows")
    seeds: int = Field(1, ge=1, description="number of seeds n; runs use seeds 0 to n - 1")
    datasets: Datasets = Field(default_factory=dict, description="datasets that this file defines")
    variants: Variants = Field(default_factory=dict, description="variants that this file defines")
    grid: tuple[GridBlock, ...] = Field((), description="blocks of cells; not needed for tables of parameters")
    runs_of: Name | None = Field(None, description="experiment from which to take grid, seeds and 'keep_models'")
    keep_models: Kept = Field("all", description="models of a run to keep after scoring: 'all', 'last' or 'none'")
    tables: dict[Name, AnyTable] = Field(default_factory=dict, description="tables by name")
    figures: dict[Name, AnyFigure] = Field(default_factory=dict, description="figures by name")

    @model_validator(mode="after")
    def _runs_are_asked_for(self) -> "Experiment":
        needed = [name for name, table in self.tables.items() if table.from_runs] + list(self.figures)
        if self.grid and self.runs_of:
            raise PydanticCustomError("two_grids", "'grid' and 'runs_of' cannot be combined; remove one")
        if not self.grid and not self.runs_of and (needed or not self.tables):
            what = f"; '{needed[0]}' needs its runs" if needed else ""
            raise PydanticCustomError("missing_grid", "'grid' is missing" + what)
        return self


class Config(Model):
    """The keys of ``config.yaml``."""

    experiment: Name = Field("quickstart", description="experiment to run if no target is given")
    data_root: FolderPath = Field("data", description="folder with one folder per dataset")
    fetch: bool = Field(False, description="download the datasets of an experiment that are missing in data_root")
    results_root: FolderPath = Field("results", description="folder for all outputs")
    seeds: int | None = Field(None, ge=1, description="number of seeds; overrides the experiment's own")
    categories: Names | None = Field(None, description="run only these categories")
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="device for training; 'auto' uses a GPU if there is one"
    )
    miniature: bool = Field(
        False, description="try out experiments without their data: tiny made-up images, random weights, one epoch"
    )
    save_maps: bool = Field(False, description="keep the anomaly maps of all test images instead of a few examples")
    keep_models: Kept | None = Field(
        None, description="models of a run to keep after scoring; overrides the experiment's own choice"
    )
    keep_features: bool = Field(True, description="keep cached features that no remaining job needs")
    datasets: Datasets = Field(default_factory=dict, description="your own folders of images and subsets of datasets")
    variants: Variants = Field(default_factory=dict, description="your own variants of methods")


class Bench(Model):
    """Configuration and experiments together, with all datasets, variants and backbones that they define.

    ``unified`` holds, by dataset, the categories that one model is trained on in the setting unified.
    """

    config: Config
    experiments: dict[str, Experiment]
    datasets: dict[str, DatasetConfig]
    variants: dict[str, VariantConfig]
    backbones: dict[str, BackboneConfig]
    unified: dict[str, Categories]

    def experiment(self, name: str) -> Experiment:
        """Return an experiment by name; the error for an unknown name suggests the nearest one."""
        if name not in self.experiments:
            raise NfbenchError(f"unknown experiment '{name}'{nearest(name, self.experiments)}")
        return self.experiments[name]

    def owner(self, kind: Literal["tables", "figures"], name: str) -> Experiment:
        """Return the experiment of a table or figure; the error suggests the nearest name."""
        owners = {found: e for e in self.experiments.values() for found in getattr(e, kind)}
        if name not in owners:
            raise NfbenchError(f"no experiment has a {kind.removesuffix('s')} '{name}'{nearest(name, owners)}")
        return owners[name]

    def dataset(self, name: str) -> DatasetConfig:
        """Return a dataset by name: a defined one, or a reader with its defaults."""
        return self.datasets.get(name) or DatasetConfig(dataset=name)

    def dataset_root(self, name: str) -> Path:
        """Return the folder with the categories of a dataset."""
        dataset = self.dataset(name)
        return Path(dataset.root) if dataset.root else Path(self.config.data_root) / dataset.dataset

    def official_categories(self, name: str) -> tuple[str, ...]:
        """Return all categories that a dataset can have; none for unions and plain folders."""
        dataset = self.dataset(name)
        return () if dataset.union else exported("nfbench.datasets", dataset.dataset, "DATASET").categories

    def variant(self, name: str) -> VariantConfig:
        """Return a variant by name: a defined one, or a method with its defaults."""
        return self.variants.get(name) or VariantConfig(method=name)

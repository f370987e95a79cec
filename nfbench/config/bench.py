"""``config.yaml`` and the experiment files, and what the two say together."""

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
"""Models of a run that stay once they have scored: those of all kept epochs, the last epoch's, none."""


class Experiment(Model):
    """A reproduced table or a study: its cells, and the tables and figures that come of them."""

    name: Name = Field("", description="name of the target, which is the file's name")
    title: str = Field(description="one line that says what is shown")
    seeds: int = Field(1, ge=1, description="seeds 0 to n - 1")
    datasets: Datasets = Field(default_factory=dict, description="datasets defined here")
    variants: Variants = Field(default_factory=dict, description="variants defined here")
    grid: tuple[GridBlock, ...] = Field((), description="blocks of cells; tables of parameters need none")
    runs_of: Name | None = Field(None, description="experiment whose grid, seeds and 'keep_models' are taken")
    keep_models: Kept = Field("all", description="models of a run that stay once they have scored")
    tables: dict[Name, AnyTable] = Field(default_factory=dict, description="tables by name")
    figures: dict[Name, AnyFigure] = Field(default_factory=dict, description="figures by name")

    @model_validator(mode="after")
    def _runs_are_asked_for(self) -> "Experiment":
        needed = [name for name, table in self.tables.items() if table.from_runs] + list(self.figures)
        if self.grid and self.runs_of:
            raise PydanticCustomError("two_grids", "'grid' and 'runs_of' exclude each other")
        if not self.grid and not self.runs_of and (needed or not self.tables):
            what = f"; '{needed[0]}' is made of its runs" if needed else ""
            raise PydanticCustomError("missing_grid", "'grid' is missing" + what)
        return self


class Config(Model):
    """The keys of ``config.yaml``."""

    experiment: Name = Field("quickstart", description="the experiment that a run without a target makes")
    data_root: FolderPath = Field("data", description="folder that holds one folder per dataset")
    fetch: bool = Field(False, description="download datasets that are named and not below data_root")
    results_root: FolderPath = Field("results", description="folder that takes all that is made")
    seeds: int | None = Field(None, ge=1, description="number of seeds, instead of the experiment's own")
    categories: Names | None = Field(None, description="take only these categories")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where flows train: auto takes a GPU if any")
    miniature: bool = Field(
        False, description="try experiments without their data: tiny made-up images, random weights, one epoch"
    )
    save_maps: bool = Field(False, description="keep the anomaly maps of all test images, not of examples only")
    keep_models: Kept | None = Field(
        None, description="models of a run that stay once they have scored, instead of the experiment's own choice"
    )
    keep_features: bool = Field(True, description="keep features that no job of a run needs any more")
    datasets: Datasets = Field(default_factory=dict, description="your own folders and subsets")
    variants: Variants = Field(default_factory=dict, description="your own variants of methods")


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

    def official_categories(self, name: str) -> tuple[str, ...]:
        """All categories that a dataset can have; none for unions, and for folders, whose categories are on disk."""
        dataset = self.dataset(name)
        return () if dataset.union else exported("nfbench.datasets", dataset.dataset, "DATASET").categories

    def variant(self, name: str) -> VariantConfig:
        """A variant by its name: one defined in config or experiments, or a method with its defaults."""
        return self.variants.get(name) or VariantConfig(method=name)

"""Specs of the stages that build tables, figures and pages from the runs of an experiment."""

from pathlib import Path

from pydantic import Field

from nfbench.backbones._base import family_of
from nfbench.config import VariantConfig
from nfbench.config.tables import AnyFigure, AnyTable
from nfbench.config.validation import Model
from nfbench.plan.cells import Block, Cell, cells_of
from nfbench.plan.paths import Paths
from nfbench.plan.specs import DerivedSpec

__all__ = [
    "AggregateSpec",
    "DatasetNote",
    "ExperimentSpec",
    "FigureSpec",
    "ReportSpec",
    "Skipped",
    "TableSpec",
    "TrackSpec",
]


class Skipped(Model):
    """Cells that an experiment omits on purpose."""

    block: Block = Field(description="omitted cells")
    reason: str = Field(description="why the cells are omitted")


class ExperimentSpec(DerivedSpec):
    """Base of specs that depend on all runs of an experiment."""

    experiment: str = Field(description="name of the experiment")
    root: str = Field(description="results_root")
    blocks: tuple[Block, ...] = Field((), description="cells of the experiment")

    def to_json(self) -> str:
        """Returns one line of JSON, including defaults, since the kind of a table is a default."""
        return self.model_dump_json()

    @property
    def cells(self) -> list[Cell]:
        """Cells of the experiment, without duplicates."""
        return cells_of(self.blocks)

    @property
    def paths(self) -> Paths:
        """Paths of all files."""
        return Paths(self.root)

    @property
    def records(self) -> list[str]:
        """Paths of ``run.json`` of all cells."""
        return [str(self.paths.run_record(cell)) for cell in self.cells]

    @property
    def results(self) -> str:
        """Path of the experiment's results."""
        return str(self.paths.experiment(self.experiment, "results.parquet"))


class AggregateSpec(ExperimentSpec):
    """From run records to one table of results, and the ledger."""

    function = "gather:aggregate_results"

    skipped: tuple[Skipped, ...] = Field((), description="cells that are left out on purpose")

    def _inputs(self) -> list[str]:
        return self.records


class DatasetNote(Model):
    """Note for tables about a dataset that differs from an official one."""

    subset: str = Field("", description="description of the subset of images; empty for all images")
    members: tuple[str, ...] = Field((), description="datasets of a union")


class TableSpec(ExperimentSpec):
    """From results to a table as LaTeX, HTML and CSV."""

    function = "tables:build_table"

    name: str = Field(description="name of the table")
    table: AnyTable = Field(description="configuration of the table")
    notes: dict[str, DatasetNote] = Field(default_factory=dict, description="notes by dataset")
    variants: dict[str, VariantConfig] = Field(default_factory=dict, description="variants to build for the table")
    remark: str = Field("", description="sentence to add to the caption")
    published: dict[str, str] = Field(default_factory=dict, description="SHA-256 of published tables, by name")

    def _inputs(self) -> list[str]:
        return [self.results] if self.table.from_runs else []

    def _plugins(self) -> list[str]:
        methods = [f"nfbench.methods.{self.variants[name].method}" for name, _ in self.table.built]
        return [self.table.module, *methods, *(family_of(backbone.name) for _, backbone in self.table.built)]


class FigureSpec(ExperimentSpec):
    """From run records to a figure as PDF and PNG."""

    function = "figures:build_figure"

    name: str = Field(description="name of the figure")
    figure: AnyFigure = Field(description="configuration of the figure")

    def _inputs(self) -> list[str]:
        return [self.results]

    def _plugins(self) -> list[str]:
        return [self.figure.module]


class ReportSpec(ExperimentSpec):
    """From run records to the report, a single HTML page."""

    function = "report:build_report"

    title: str = Field(description="title of the experiment")
    tables: dict[str, AnyTable] = Field(default_factory=dict, description="tables by name")
    notes: dict[str, DatasetNote] = Field(default_factory=dict, description="notes by dataset")
    remark: str = Field("", description="sentence below the title")
    bundles: dict[str, str] = Field(default_factory=dict, description="bundle of each run, in a merged set")
    published: dict[str, str] = Field(default_factory=dict, description="SHA-256 of published tables, by name")
    skipped: tuple[Skipped, ...] = Field((), description="cells that are left out on purpose")

    def _inputs(self) -> list[str]:
        return [*self.records, self.results]

    def _plugins(self) -> list[str]:
        return [table.module for table in self.tables.values()]


class TrackSpec(ExperimentSpec):
    """From records and files to runs in MLflow."""

    function = "track:track_runs"

    title: str = Field(description="title of the experiment")
    name: str = Field(description="name of the experiment in MLflow")
    studies: tuple[str, ...] = Field((), description="study.json of the searches")
    tables: tuple[str, ...] = Field((), description="names of the tables")
    figures: tuple[str, ...] = Field((), description="names of the figures")

    @property
    def files(self) -> dict[str, list[Path]]:
        """Files built from the runs, by kind."""
        files = self.paths.gathered(self.experiment, self.tables, self.figures)
        return files if self.blocks else {kind: files[kind] for kind in ("tables", "figures")}

    def _inputs(self) -> list[str]:
        return [*self.records, *self.studies, *(str(path) for paths in self.files.values() for path in paths)]

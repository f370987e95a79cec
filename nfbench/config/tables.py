"""Tables and figures of an experiment: what they show of its runs."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from nfbench.config.backbone import BackboneConfig
from nfbench.config.grid import Setting
from nfbench.config.metrics import MetricName
from nfbench.config.names import Name, Title
from nfbench.config.validation import Model

__all__ = [
    "AnyTable",
    "BackboneRow",
    "BackbonesTableConfig",
    "CountedModel",
    "FigureConfig",
    "MethodRow",
    "MethodsTableConfig",
    "ParametersTableConfig",
    "SettingsTableConfig",
    "TableConfig",
]

Selection = Literal["last", "val", "oracle"]
Cost = Literal[
    "parameters",
    "train_seconds",
    "score_images_per_second",
    "peak_memory_mb",
    "search_trials",
    "search_pruned",
    "search_failed",
    "search_seconds",
]


_SETTING = "show the runs of this setting; needed where the experiment has runs of several"
_ROW = "which row of the published table: its columns by name, such as {backbone: ResNet18}"


class _Table(Model):
    """What tables of all kinds have."""

    from_runs: ClassVar[bool] = True  # False: the table needs no runs

    title: str = Field(description="caption")

    @property
    def counted(self) -> "tuple[CountedModel, ...]":
        """Models that are built to be counted."""
        return ()


class TableConfig(_Table):
    """A table of results: categories as rows, methods as columns, published values beside measured ones."""

    kind: Literal["results"] = "results"
    setting: Setting | None = Field(None, description=_SETTING)
    metric: MetricName = Field(description="metric, as run.json names it")
    metric_of: dict[str, MetricName] = Field(
        default_factory=dict, description="other metrics for single methods, where their paper scores them otherwise"
    )
    selections: tuple[Selection, ...] = Field(
        ("last",), min_length=1, description="which checkpoint is scored; several stand side by side"
    )
    published: str | None = Field(None, description="file of nfbench/reference without its ending")
    published_by: str = Field(
        "method", description="column of that file that names the methods, such as method_published"
    )
    published_datasets: dict[str, str] = Field(
        default_factory=dict, description="the published table's names of datasets, where it has rows of several"
    )
    published_as: dict[str, str | dict[str, str]] = Field(
        default_factory=dict,
        description="published method that a method or variant is compared with, by default the one of its method's "
        "title; by the backbone's name where several are published, such as 'SANFlow (WRN-50)'",
    )
    tolerance: tuple[float, float] = Field(
        (0.5, 1.5), description="points within which a cell is 'reproduced' and 'close'; beyond, it is 'off'"
    )


class BackboneRow(Model):
    """A row of a table of backbones."""

    backbone: BackboneConfig = Field(description="backbone of the grid, the same keys as there")
    title: Title | None = Field(None, description="name of the row, by default the backbone's tag")
    published: dict[str, str] | None = Field(None, description=_ROW)


class BackbonesTableConfig(_Table):
    """A table of backbones or level sets: they are the rows, metrics the columns, cells means over categories."""

    kind: Literal["backbones"] = "backbones"
    setting: Setting | None = Field(None, description=_SETTING)
    metrics: tuple[MetricName, ...] = Field(min_length=1, description="metrics, as run.json names them")
    rows: tuple[BackboneRow, ...] = Field(min_length=1, description="backbones in the order of the rows")
    selections: tuple[Selection, ...] = Field(
        ("last",), min_length=1, description="which checkpoint is scored; several stand side by side"
    )
    published: str | None = Field(None, description="file of nfbench/reference without its ending")
    tolerance: tuple[float, float] = Field(
        (0.5, 1.5), description="points within which a cell is 'reproduced' and 'close'; beyond, it is 'off'"
    )


class MethodRow(Model):
    """A row of a table of methods."""

    method: Name = Field(description="method or variant")
    backbone: BackboneConfig | None = Field(None, description="backbone, where the method was run on several")
    title: Title | None = Field(None, description="name of the row, by default the method's or variant's")
    published: dict[str, str] | None = Field(None, description=_ROW)


class MethodsTableConfig(_Table):
    """A table of methods: they are the rows, metrics and costs the columns, cells means over categories."""

    kind: Literal["methods"] = "methods"
    setting: Setting | None = Field(None, description=_SETTING)
    metrics: tuple[MetricName, ...] = Field(min_length=1, description="metrics, as run.json names them")
    datasets: tuple[str, ...] | None = Field(None, min_length=1, description="show the runs of these datasets only")
    costs: tuple[Cost, ...] = Field(
        (), description="what a run, and the search for its settings, cost, in columns after the metrics"
    )
    rows: tuple[MethodRow, ...] = Field(
        (), description="methods in the order of the rows; by default all, each on each of its backbones"
    )
    selection: Selection = Field("last", description="which checkpoint is scored")
    published: str | None = Field(None, description="file of nfbench/reference without its ending; needs 'rows'")
    tolerance: tuple[float, float] = Field(
        (0.5, 1.5), description="points within which a cell is 'reproduced' and 'close'; beyond, it is 'off'"
    )

    @model_validator(mode="after")
    def _published_rows_are_named(self) -> "MethodsTableConfig":
        named = any(row.published for row in self.rows)
        if named != (self.published is not None):
            missing = (
                "'published', the file that they are in" if named else "'rows' that say which of its rows they are"
            )
            raise PydanticCustomError("published_rows", "published values need " + missing)
        return self


class SettingsTableConfig(_Table):
    """A table of methods in the settings one-class and unified, side by side; cells are means over categories."""

    kind: Literal["settings"] = "settings"
    metrics: tuple[MetricName, ...] = Field(min_length=1, description="metrics, as run.json names them")
    selection: Selection = Field("last", description="which checkpoint is scored")


class CountedModel(Model):
    """A row of a table of parameters: a model that is built to be counted."""

    method: Name = Field(description="method or variant")
    backbone: BackboneConfig = Field(description="backbone, levels and input size that give the shapes")
    published: dict[str, str] | None = Field(None, description=_ROW)
    explanation: str = Field("", description="what to know of this count, above all where it is not the published one")


class ParametersTableConfig(_Table):
    """A table of trainable parameters, counted in models that are built, next to published numbers; needs no runs."""

    from_runs = False

    kind: Literal["parameters"] = "parameters"
    published: str | None = Field(None, description="file of nfbench/reference without its ending")
    rows: tuple[CountedModel, ...] = Field(min_length=1, description="models in the order of the rows")

    @property
    def counted(self) -> tuple[CountedModel, ...]:
        """Models that are built to be counted."""
        return self.rows


def _kind(table: Any) -> Any:
    return table.get("kind", "results") if isinstance(table, Mapping) else getattr(table, "kind", "results")


AnyTable = Annotated[
    Annotated[TableConfig, Tag("results")]
    | Annotated[BackbonesTableConfig, Tag("backbones")]
    | Annotated[MethodsTableConfig, Tag("methods")]
    | Annotated[SettingsTableConfig, Tag("settings")]
    | Annotated[ParametersTableConfig, Tag("parameters")],
    Discriminator(
        _kind,
        custom_error_type="unknown_kind",
        custom_error_message="'kind' of a table is results, backbones, methods, settings or parameters",
    ),
]


class FigureConfig(Model):
    """A figure of an experiment."""

    from_runs: ClassVar[bool] = True

    setting: Setting | None = Field(None, description="draw the runs of this setting only")
    kind: Literal[
        "maps",
        "histograms",
        "curves",
        "segmentation",
        "thresholds",
        "calibration",
        "speed",
        "likelihoods",
        "anomalies",
        "homogeneous_mapping",
        "search",
    ] = Field(
        description="anomaly maps, score histograms, training curves, a contrario segmentation, mean IoU by threshold, "
        "quantiles of normal latents, image AUROC by speed of inference, histograms of log-likelihoods before and "
        "after training, contact sheet of the images that pseudo-anomalies make, log-likelihoods and losses of one "
        "model for each category beside one for all, history of a search and what its dimensions matter"
    )

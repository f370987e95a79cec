"""The configuration: models of ``config.yaml`` and of the experiment files, and what the two say together.

Every key has its default and meaning here and nowhere else; the JSON schema is generated from these models.
"""

from nfbench.config.backbone import BackboneConfig
from nfbench.config.bench import Bench, Config, Experiment, load_bench
from nfbench.config.grid import (
    AnomaliesConfig,
    AvailableAmong,
    Categories,
    DatasetConfig,
    GridBlock,
    Setting,
    VariantConfig,
)
from nfbench.config.search import Choices, Dimension, Range, SearchConfig
from nfbench.config.tables import (
    BackboneRow,
    BackbonesTableConfig,
    CountedModel,
    FigureConfig,
    MethodRow,
    MethodsTableConfig,
    ParametersTableConfig,
    SettingsTableConfig,
    TableConfig,
)
from nfbench.config.validation import validate

__all__ = [
    "AnomaliesConfig",
    "AvailableAmong",
    "BackboneConfig",
    "BackboneRow",
    "BackbonesTableConfig",
    "Bench",
    "Categories",
    "Choices",
    "Config",
    "CountedModel",
    "DatasetConfig",
    "Dimension",
    "Experiment",
    "FigureConfig",
    "GridBlock",
    "MethodRow",
    "MethodsTableConfig",
    "ParametersTableConfig",
    "Range",
    "SearchConfig",
    "Setting",
    "SettingsTableConfig",
    "TableConfig",
    "VariantConfig",
    "load_bench",
    "validate",
]

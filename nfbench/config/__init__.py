"""Models of ``config.yaml`` and of the experiment files, and the two combined.

Defaults and descriptions of all keys are defined here only. The JSON schema is generated from these models.
"""

from nfbench.config.backbone import BackboneConfig
from nfbench.config.bench import Bench, Config, Experiment, Kept
from nfbench.config.conditions import Condition, condition_of, condition_pattern, shift_of_view
from nfbench.config.grid import (
    AnomaliesConfig,
    AvailableAmong,
    Categories,
    DatasetConfig,
    GridBlock,
    Setting,
    VariantConfig,
)
from nfbench.config.load import load_bench, read_config
from nfbench.config.metrics import metrics_in
from nfbench.config.names import NAME_PATTERN, check_category, require_known
from nfbench.config.reading import read_mapping, read_yaml, typed
from nfbench.config.search import Choices, Dimension, Range, SearchConfig
from nfbench.config.tables import FigureConfig, TableConfig
from nfbench.config.validation import validate

__all__ = [
    "NAME_PATTERN",
    "AnomaliesConfig",
    "AvailableAmong",
    "BackboneConfig",
    "Bench",
    "Categories",
    "Choices",
    "Condition",
    "Config",
    "DatasetConfig",
    "Dimension",
    "Experiment",
    "FigureConfig",
    "GridBlock",
    "Kept",
    "Range",
    "SearchConfig",
    "Setting",
    "TableConfig",
    "VariantConfig",
    "check_category",
    "condition_of",
    "condition_pattern",
    "load_bench",
    "metrics_in",
    "read_config",
    "read_mapping",
    "read_yaml",
    "require_known",
    "shift_of_view",
    "typed",
    "validate",
]

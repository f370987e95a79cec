"""Metrics: one module per formula, found by its file name, and exact functions of scores and masks.

Importing this package or a metric imports no numpy: names of metrics are checked while the workflow is parsed.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from nfbench.metrics._base import (
    BY_AGGREGATION,
    BY_RULE,
    BY_THRESHOLD,
    MAP_SIZE,
    ORIGINAL_SIZE,
    OVER_IMAGES,
    PACKAGE,
    PER_100_IMAGES,
    SHARE,
    TRANSDUCTIVE,
    Metric,
    Named,
    ThresholdSource,
    Unit,
    families,
    family_modules,
    find_metric,
    known_metrics,
    metric_list,
    metrics_of,
)

if TYPE_CHECKING:
    from nfbench.metrics._aupimo import aupimo
    from nfbench.metrics._iou import fair_threshold, miou, miou_curve, miou_oracle
    from nfbench.metrics._legacy import legacy_aupro
    from nfbench.metrics._pixel import aupro, average_precision, pixel_areas, pixel_auroc
    from nfbench.metrics._ranking import image_areas
    from nfbench.metrics._spro import Channel, au_spro, saturation_area

__all__ = [
    "BY_AGGREGATION",
    "BY_RULE",
    "BY_THRESHOLD",
    "MAP_SIZE",
    "ORIGINAL_SIZE",
    "OVER_IMAGES",
    "PACKAGE",
    "PER_100_IMAGES",
    "SHARE",
    "TRANSDUCTIVE",
    "Channel",
    "Metric",
    "Named",
    "ThresholdSource",
    "Unit",
    "au_spro",
    "aupimo",
    "aupro",
    "average_precision",
    "fair_threshold",
    "families",
    "family_modules",
    "find_metric",
    "image_areas",
    "known_metrics",
    "legacy_aupro",
    "metric_list",
    "metrics_of",
    "miou",
    "miou_curve",
    "miou_oracle",
    "pixel_areas",
    "pixel_auroc",
    "saturation_area",
]

_FUNCTIONS = {
    "_aupimo": ("aupimo",),
    "_iou": ("fair_threshold", "miou", "miou_curve", "miou_oracle"),
    "_legacy": ("legacy_aupro",),
    "_pixel": ("aupro", "average_precision", "pixel_areas", "pixel_auroc"),
    "_ranking": ("image_areas",),
    "_spro": ("Channel", "au_spro", "saturation_area"),
}
"""Functions that import numpy, by module."""


def __getattr__(name: str) -> Any:
    """Return a function, imported on first access."""
    for module, functions in _FUNCTIONS.items():
        if name in functions:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")

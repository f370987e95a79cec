"""Exact metrics: ranking metrics and mIoU of anomaly maps. NumPy and SciPy only."""

from nfbench.metrics.iou import fair_threshold, miou, miou_curve, miou_oracle
from nfbench.metrics.legacy import legacy_aupro
from nfbench.metrics.pixel import aupro, average_precision, pixel_areas, pixel_auroc

__all__ = [
    "aupro",
    "average_precision",
    "fair_threshold",
    "legacy_aupro",
    "miou",
    "miou_curve",
    "miou_oracle",
    "pixel_areas",
    "pixel_auroc",
]

"""Exact metrics: ranking metrics and mIoU of anomaly maps. NumPy and SciPy only."""

from nfbench.metrics.iou import fair_threshold, miou, miou_curve, miou_oracle
from nfbench.metrics.legacy import legacy_aupro
from nfbench.metrics.pixel import aupro, average_precision, pixel_areas, pixel_auroc
from nfbench.metrics.ranking import image_areas

__all__ = [
    "aupro",
    "average_precision",
    "fair_threshold",
    "image_areas",
    "legacy_aupro",
    "miou",
    "miou_curve",
    "miou_oracle",
    "pixel_areas",
    "pixel_auroc",
]

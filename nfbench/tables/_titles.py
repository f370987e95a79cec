"""Names of metrics as tables, figures and the report print them."""

from nfbench.config import TRANSDUCTIVE

__all__ = ["METRICS", "SCORE_RULES", "metric_title", "short_metric"]

METRICS = {
    "image_auroc": "image AUROC",
    "image_ap": "image AP",
    "pixel_auroc": "pixel AUROC",
    "pixel_ap": "pixel AP",
    "image_f1": "image F1 at the best threshold",
    "pixel_f1": "pixel F1 at the best threshold",
    "pixel_aupro": "AUPRO",
    "pixel_aupro_05": "AUPRO up to a false positive rate of 0.05",
    "miou_oracle": "mean IoU of the anomaly map at the best threshold on the test set",
    "miou_fair": "mean IoU of the anomaly map at one false positive pixel per normal training image",
    "miou_nfa": "mean IoU of the a contrario mask, NFA < 1",
    "miou_nfa_guard": "mean IoU of the a contrario mask, NFA < 1, with the Chernoff guard",
    "miou_nfa_oracle": "mean IoU of the log-NFA map at the best threshold on the test set",
    "false_alarms_fair": "detected regions per 100 normal test images, at one false positive pixel per training image",
    "false_alarms_nfa": "detected regions per 100 normal test images, NFA < 1",
    "false_alarms_nfa_guard": "detected regions per 100 normal test images, NFA < 1, with the Chernoff guard",
}
SCORE_RULES = {"max": "maximum of the map", "mean": "mean of the map", "top1": "mean of the map's top 1 %"}
_AGGREGATIONS = {"anomalous": "anomalous images", "pooled": "pixels pooled"}
_SHORT = {"miou_nfa": "NFA < 1", "miou_nfa_guard": "NFA < 1, guard", "miou_nfa_oracle": "best NFA"}


def metric_title(metric: str) -> str:
    """A metric's name as it is printed, with the rule of the image score where it is not the method's own."""
    if metric.endswith(TRANSDUCTIVE):
        own = metric_title(metric.removesuffix(TRANSDUCTIVE))
        return f"{own} of scores relative to the test set's maximum, as published"
    base, _, suffix = metric.rpartition("_")
    qualified = {**SCORE_RULES, **_AGGREGATIONS}.get(suffix)
    return f"{METRICS[base]} ({qualified})" if qualified else METRICS.get(metric, metric)


def short_metric(metric: str) -> str:
    """A metric's name for the heading of a column."""
    return "transductive" if metric.endswith(TRANSDUCTIVE) else _SHORT.get(metric, metric)

"""Names of all metrics that a run can have: what ``run.json`` holds and tables may ask for."""

from itertools import product

__all__ = ["METRIC_NAMES", "PLAIN_METRICS", "TRANSDUCTIVE", "plain_metric"]

TRANSDUCTIVE = "_transductive"
"""Ends the names of metrics of scores that are relative to the whole test set, as some papers publish them."""

_IMAGE_RULES = ("", "_max", "_mean", "_top1")
_OVER = ("", "_anomalous", "_pooled")
_IMAGE = [f"image_{area}{rule}" for area, rule in product(("auroc", "ap", "f1"), _IMAGE_RULES)]
_PIXEL = [f"pixel_{area}" for area in ("auroc", "ap", "f1", "aupro", "aupro_05")]
_MAP = ["miou_oracle", "miou_fair"]
_LOG_NFA = ["miou_nfa", "miou_nfa_guard", "miou_nfa_oracle"]
_OF_MAPS = [*_IMAGE, *_PIXEL, *(f"{iou}{over}" for iou, over in product(_MAP, _OVER))]
_OF_LATENTS = [f"{iou}{over}" for iou, over in product(_LOG_NFA, _OVER)]

METRIC_NAMES = (
    *_OF_MAPS,
    "false_alarms_fair",
    *_OF_LATENTS,
    "false_alarms_nfa",
    "false_alarms_nfa_guard",
    *(f"{name}{TRANSDUCTIVE}" for name in (*_OF_MAPS, "false_alarms_fair")),
)
"""All of them; ``scoring.evaluate`` says what each is."""


PLAIN_METRICS = tuple(name for name in METRIC_NAMES if not name.endswith((TRANSDUCTIVE, *_IMAGE_RULES[1:], *_OVER[1:])))
"""Those by the method's own image score, over all images, and not relative to the test set."""


def plain_metric(metric: str) -> str:
    """The metric's name in papers, which print transductive scores under it too."""
    return metric.removesuffix(TRANSDUCTIVE)

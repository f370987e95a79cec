"""The two error rates of images and pixels at each threshold; see ``nfbench.scoring.rates``."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Literal

from nfbench.metrics._base import BY_THRESHOLD, MAP_SIZE, ORIGINAL_SIZE, Metric

if TYPE_CHECKING:
    from nfbench.scoring.evaluate import ScoredSet

__all__ = ["RATES", "rates"]

RATES = ("image_false_alarm_rate", "image_miss_rate", "pixel_false_alarm_rate", "pixel_miss_rate")
"""Names of the rates at the conformal threshold; other thresholds add an ending."""

_WAYS: dict[str, tuple[str, Mapping[str, str]]] = {
    "": (" at the conformal threshold for 5 %", BY_THRESHOLD),
    "_oracle": (" at the threshold of the best F1 on the test set (optimistic)", {"oracle": ""}),
    "_nfa": (" where NFA < 1 decides", {"nfa": ""}),
}
"""Endings of names and titles, and their rules; the first takes thresholds from normal images."""


def rates(kind: Literal["false_alarms", "misses"], name: str, title: str) -> list[Metric]:
    """Return the metrics of one field of ``Rates``.

    Args:
        kind: name of the field.
        name: the part of metric names after ``image_`` and ``pixel_``.
        title: the same in titles.
    """
    return [
        Metric(
            f"{part}_{name}{ending}",
            f"{title} of {part}s{at}",
            _value(part, kind),
            higher_is_better=False,
            needs_masks=part == "pixel",
            needs_normal=not ending,
            needs_latents=ending == "_nfa",
            variants=rules,
            threshold=None if ending else _threshold(part),
            size=ORIGINAL_SIZE if part == "pixel" else MAP_SIZE if ending == "_nfa" else "",
        )
        for part in ("image", "pixel")
        for ending, (at, rules) in _WAYS.items()
    ]


def _value(part: str, kind: str) -> "Callable[[ScoredSet, str], float]":
    return lambda test, rule: getattr(getattr(test, f"{part}_rates")(rule), kind)


def _threshold(part: str) -> "Callable[[ScoredSet, str], float]":
    return lambda test, rule: getattr(test, f"{part}_threshold")(rule)

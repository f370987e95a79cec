"""The definition of a metric, and all metrics by the names that ``run.json`` and tables give them.

A module of this package without a leading underscore is a family of metrics: its list ``METRICS`` has one formula's
metrics. Everything else follows: run records, tables and their captions, the report, searches, and the names accepted
in configurations. Values are computed by functions of ``nfbench.scoring.evaluate.ScoredSet``.
"""

import difflib
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Literal

from nfbench.core.errors import NfbenchError
from nfbench.core.registry import exported, nearest, plugin_names

if TYPE_CHECKING:
    import numpy as np

    from nfbench.scoring.evaluate import ScoredSet

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
    "Metric",
    "Named",
    "ThresholdSource",
    "Unit",
    "families",
    "family_modules",
    "find_metric",
    "known_metrics",
    "metric_list",
    "metrics_of",
]

PACKAGE = "nfbench.metrics"

ThresholdSource = Literal["validation", "held out", "cross-fitted", "training"]
"""Normal images that a threshold is taken from: those of a validation split; those that the training held out; all,
each scored by a model that was fitted without it; or, as in papers, those that the model was trained on."""

TRANSDUCTIVE = "_transductive"
"""Suffix of metrics of scores relative to the whole test set, as some papers publish them."""

BY_RULE = {
    "paper": "",
    "max": "maximum of the map",
    "mean": "mean of the map",
    "top1": "mean of the map's top 1 %",
}
"""Variants of metrics of image scores, by the rule of the score; the method's own rule first."""

BY_THRESHOLD = {
    "conformal": "",
    "sigma": "mean plus 3 standard deviations",
    "quantile": "95 % quantile of images, 99.9 % of pixels",
}
"""Variants of metrics at thresholds from normal images; the conformal one at 5 % first, see ``_thresholds``."""

BY_AGGREGATION = {"all": "", "anomalous": "anomalous images", "pooled": "pixels pooled"}
"""Variants of mean IoU, by aggregation; all images first."""


ORIGINAL_SIZE = "metrics at the original image size"
MAP_SIZE = "counted at the method's own map size"
OVER_IMAGES = "mean over all test images, good ones included, unless said otherwise"


@dataclass(frozen=True)
class Unit:
    """Unit of the values.

    Attributes:
        name: in lists of metrics.
        suffix: printed after a metric's title; empty if the title has the unit.
        factor: values are printed times this.
        largest: the largest value in ``run.json``; the smallest is 0.
    """

    name: str
    suffix: str = ""
    factor: float = 1.0
    largest: float = math.inf


SHARE = Unit("percent", " in percent", factor=100.0, largest=1.0)
PER_100_IMAGES = Unit("count per 100 images", factor=100.0)
"""Counts per image in ``run.json``, printed per 100 images; the title names the images."""


@dataclass(frozen=True)
class Metric:
    """A metric of a scored test set.

    Attributes:
        name: as ``run.json`` names it; variants but the first add an ending.
        title: as captions print it.
        value: from the test set and a key of ``variants``; NaN where it is undefined.
        unit: of the values.
        higher_is_better: otherwise lower values are.
        needs_masks: it is not measured on datasets without masks.
        needs_channels: it is only measured on datasets whose masks have one file per defect, such as MVTec LOCO.
        needs_samples: it is only measured on images whose file names state the part that they show, as in Real-IAD.
        needs_normal: its threshold is taken from normal images, and captions say from which.
        needs_latents: it is only measured for methods with white latents, which give log-NFA maps.
        variants: what captions say of each variant, by key; the first has the plain name.
        by_image: values of each test image ``(N,)``, NaN where undefined, if ``value`` is their mean; for paired tests.
        threshold: threshold that goes with the value in ``run.json``, where the metric chooses one; NaN without.
        size: size of the maps that it is measured at, for captions; empty if the size does not matter.
        note: what captions add.
        short: heading of a column, by default the name.
        headline: it comes first in the report, which compares methods by it.
    """

    name: str
    title: str
    value: "Callable[[ScoredSet, str], float]"
    unit: Unit = SHARE
    higher_is_better: bool = True
    needs_masks: bool = False
    needs_channels: bool = False
    needs_samples: bool = False
    needs_normal: bool = False
    needs_latents: bool = False
    variants: Mapping[str, str] = field(default_factory=lambda: {"": ""})
    by_image: "Callable[[ScoredSet, str], np.ndarray] | None" = None
    threshold: "Callable[[ScoredSet, str], float] | None" = None
    size: str = ""
    note: str = ""
    short: str = ""
    headline: bool = False

    def names(self, family: str) -> "Iterator[Named]":
        """Return a metric under all its names: its variants, and those of transductive scores."""
        for transductive in (False, True)[: 1 if self.needs_latents else 2]:
            for place, variant in enumerate(self.variants):
                yield Named(self, family, variant, plain=place == 0, transductive=transductive)


@dataclass(frozen=True)
class Named:
    """A metric under one of its names.

    Attributes:
        metric: the metric.
        family: name of the module that has it.
        variant: key of its variants.
        plain: whether this is the first variant.
        transductive: whether scores are relative to the whole test set.
    """

    metric: Metric
    family: str
    variant: str
    plain: bool
    transductive: bool

    @property
    def printed_as(self) -> str:
        """Return the name in published tables, which print transductive scores under the plain name."""
        return self.metric.name if self.plain else f"{self.metric.name}_{self.variant}"

    @property
    def name(self) -> str:
        """Return the name in ``run.json`` and in tables."""
        return f"{self.printed_as}{TRANSDUCTIVE}" if self.transductive else self.printed_as

    @property
    def title(self) -> str:
        """Return the title for captions, without the unit."""
        title = self.metric.title if self.plain else f"{self.metric.title} ({self.metric.variants[self.variant]})"
        return f"{title} of scores relative to the test set's maximum, as published" if self.transductive else title

    @property
    def short(self) -> str:
        """Heading of a column."""
        if self.transductive:
            return "transductive"
        return (self.plain and self.metric.short) or self.name

    @property
    def sign(self) -> int:
        """Return 1 if higher values are better, else -1."""
        return 1 if self.metric.higher_is_better else -1


@cache
def families() -> dict[str, tuple[Named, ...]]:
    """Return metrics under all their names, by module."""
    found = {family: _listed(family) for family in plugin_names(PACKAGE)}
    return {family: tuple(named for metric in own for named in metric.names(family)) for family, own in found.items()}


def _listed(family: str) -> Sequence[Metric]:
    """Return the list ``METRICS`` of a family.

    Raises:
        NfbenchError: an entry is not a metric, or its name is not valid; names the file.
    """
    found: Sequence[Metric] = exported(PACKAGE, family, "METRICS", instance_of=Sequence)
    for metric in found:
        fault = ""
        if not isinstance(metric, Metric) or not callable(metric.value):
            fault = f"'METRICS' must list Metrics with functions, got {metric!r}"
        elif not re.fullmatch("[a-z][a-z0-9_]*", metric.name):
            fault = f"'{metric.name}' is not a valid metric name; use a-z, 0-9 and _"
        elif not metric.title.isprintable():
            fault = f"the title of '{metric.name}' must be one line"
        if fault:
            raise NfbenchError(f"nfbench/metrics/{family}.py: {fault}")
    return found


def metrics_of(chosen: Sequence[str] = ()) -> list[Named]:
    """Return the metrics of families, by default of all, under all their names.

    Raises:
        NfbenchError: there is no such family; the message names the nearest one.
    """
    for name in chosen:
        if name not in families():
            raise NfbenchError(f"unknown family of metrics '{name}'{nearest(name, families())}")
    return [named for name in chosen or families() for named in families()[name]]


@cache
def known_metrics() -> dict[str, Named]:
    """Return all metrics by name, headline metrics first."""
    listed = sorted(metrics_of(), key=lambda named: not (named.metric.headline and named.plain))
    found = {named.name: named for named in listed}
    if len(found) < len(listed):
        names = [named.name for named in listed]
        twice = next(name for name in names if names.count(name) > 1)
        files = sorted({f"nfbench/metrics/{named.family}.py" for named in listed if named.name == twice})
        raise NfbenchError(f"{' and '.join(files)}: two metrics have the name '{twice}'")
    return found


def find_metric(name: str) -> Named:
    """Return the metric with this name.

    Raises:
        NfbenchError: there is no such metric; the message names the nearest one, or all plain names.
    """
    known = known_metrics()
    if name not in known:
        plain = [named.name for named in known.values() if named.plain and not named.transductive]
        raise NfbenchError(
            f"unknown metric '{name}'{nearest(name, difflib.get_close_matches(name, known, n=1) or plain)}"
        )
    return known[name]


def family_modules(names: Iterable[str] = ()) -> list[str]:
    """Return the modules of metric families, by default of all."""
    return [f"{PACKAGE}.{name}" for name in names or plugin_names(PACKAGE)]


def metric_list() -> str:
    """Return a Markdown table of all metrics, with the endings that their variants add."""
    lines = ["| name | metric | unit | best | needs | endings |", "| --- | --- | --- | --- | --- | --- |"]
    for family in families().values():
        for named in family:
            metric = named.metric
            if not named.plain or named.transductive:
                continue
            needs = [what for what in ("masks", "channels", "samples", "latents") if getattr(metric, f"needs_{what}")]
            endings = [
                *(f"`_{key}`" for key in [*metric.variants][1:]),
                *[f"`{TRANSDUCTIVE}`"] * ("latents" not in needs),
            ]
            best = "highest" if metric.higher_is_better else "lowest"
            cells = (f"`{metric.name}`", metric.title, metric.unit.name, best, ", ".join(needs), ", ".join(endings))
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)

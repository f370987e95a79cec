"""Whether bundles can stand side by side: the same experiment, images and settings, and no contradictory values."""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from nfbench.core.errors import NfbenchError, one_line
from nfbench.plan.cells import Cell
from nfbench.results.record import RunRecord
from nfbench.sharing.bundle import Bundle

__all__ = ["largest_difference", "repeated_runs", "require_agreement"]

_SHOWN = 3


def require_agreement(bundles: Sequence[Bundle], tolerance: float) -> None:
    """Refuses bundles that do not belong together.

    Args:
        bundles: two or more.
        tolerance: largest difference of two values of a metric that counts as agreement, see ``largest_difference``.

    Raises:
        NfbenchError: the experiments differ, or runs contradict one another; names the first runs, keys and values.
    """
    first = bundles[0]
    for other in bundles[1:]:
        if other.record.experiment != first.record.experiment:
            raise NfbenchError(
                f"{first.name} has the experiment '{first.record.experiment}' and {other.name} has "
                f"'{other.record.experiment}'; only bundles of one experiment can be merged"
            )
        shared = first.experiment.report.notes.keys() & other.experiment.report.notes.keys()
        if names := _different(_definition(first, shared), _definition(other, shared)):
            raise NfbenchError(f"{first.name} and {other.name} define the experiment differently: {names}")
    faults = [*_conditions(bundles), *_contradictions(bundles, tolerance)]
    if faults:
        more = f"; {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
        raise NfbenchError(f"the bundles contradict one another: {'; '.join(faults[:_SHOWN])}{more}")


def repeated_runs(bundles: Sequence[Bundle]) -> Iterator[tuple[Cell, list[Bundle]]]:
    """Yields the cells that several bundles have measured, with these bundles in order."""
    for cell in dict.fromkeys(cell for bundle in bundles for cell in bundle.stock.records):
        if len(having := [bundle for bundle in bundles if cell in bundle.stock.records]) > 1:
            yield cell, having


def largest_difference(one: RunRecord, other: RunRecord) -> tuple[float, str]:
    """The largest difference of two runs of a cell over all metrics of all selections that both have.

    Differences are absolute up to values of 1 and relative above, so that shares are compared in absolute terms.

    Returns:
        The difference, infinite where one value is undefined, and what differs: metric, selection and both values.
    """
    largest, where = 0.0, ""
    for selection in one.selections.keys() & other.selections.keys():
        values, others = one.selections[selection].metrics, other.selections[selection].metrics
        for metric in values.keys() & others.keys():
            difference = _difference(values[metric], others[metric])
            if difference > largest:
                largest = difference
                where = f"{metric} ({selection}) is {_text(values[metric])} and {_text(others[metric])}"
    return largest, where


def _difference(one: float | None, other: float | None) -> float:
    if one is None or other is None:
        return 0.0 if one is other else math.inf
    return abs(one - other) / max(1.0, abs(one), abs(other))


def _contradictions(bundles: Sequence[Bundle], tolerance: float) -> Iterator[str]:
    """Describes runs of one cell whose values differ by more than ``tolerance``."""
    for cell, having in repeated_runs(bundles):
        for one, other in itertools.combinations(having, 2):
            difference, where = largest_difference(one.stock.records[cell], other.stock.records[cell])
            if difference > tolerance:
                yield f"{cell}: {where} in {one.name} and {other.name}"


def _conditions(bundles: Sequence[Bundle]) -> Iterator[str]:
    """Describes images, features, settings and names that ought to be equal and are not."""
    runs = [(bundle, record) for bundle in bundles for record in bundle.stock.records.values()]
    yield from _unequal("images", _images, lambda cell: f"{cell.dataset}/{cell.category}", runs)
    yield from _unequal("features", _features, lambda cell: cell.backbone, runs)
    yield from _unequal("settings", _settings, _without_seed, runs)
    yield from _unequal("names", _names, lambda cell: f"{cell.setting}/{cell.method}", runs)


def _without_seed(cell: Cell) -> str:
    return "/".join(filter(None, (str(cell).rpartition("/")[0], cell.condition)))


def _unequal(
    what: str,
    value_of: Callable[[Bundle, RunRecord], dict[str, Any]],
    group_of: Callable[[Cell], str],
    runs: Iterable[tuple[Bundle, RunRecord]],
) -> Iterator[str]:
    """Compares the first run of each group in each bundle with that in the first bundle."""
    firsts: dict[str, tuple[Bundle, dict[str, Any]]] = {}
    seen: set[tuple[str, str]] = set()
    for bundle, run in runs:
        group = group_of(run.cell.cell)
        if (group, bundle.name) in seen:
            continue
        seen.add((group, bundle.name))
        value = value_of(bundle, run)
        first, expected = firsts.setdefault(group, (bundle, value))
        if names := _different(expected, value):
            yield f"{group}: {first.name} and {bundle.name} have different {what}: {names}"


def _different(one: dict[str, Any], other: dict[str, Any]) -> str:
    """Names the keys whose values differ, with the values of the first one."""
    keys = [key for key in {**one, **other} if one.get(key) != other.get(key)]
    if not keys:
        return ""
    values = f"{_text(one.get(keys[0]))} and {_text(other.get(keys[0]))}"
    return f"{keys[0]} is {values}" + (f", and {len(keys) - 1} more" if len(keys) > 1 else "")


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    text = "missing" if value is None else one_line(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _definition(bundle: Bundle, datasets: Iterable[str]) -> dict[str, Any]:
    """What bundles of an experiment must share: its tables, and the notes on the datasets that both have."""
    report = bundle.experiment.report
    tables = {f"table '{name}'": table.model_dump(mode="json") for name, table in report.tables.items()}
    return {**tables, **{f"note on '{name}'": report.notes[name].model_dump() for name in datasets}}


def _images(bundle: Bundle, run: RunRecord) -> dict[str, Any]:
    """Labels and masks of the images by split and hash; names and folders may differ between machines."""
    images: dict[str, list[Any]] = {}
    for entry in bundle.manifests[run.cell.dataset, run.cell.category]:
        images.setdefault(f"{entry.split} image {entry.sha256[:12]}", []).append([entry.label, entry.mask_sha256])
    return {name: sorted(found) for name, found in images.items()}


def _features(_: Bundle, run: RunRecord) -> dict[str, Any]:
    """The recipe of the features; the hash of the weights decides, not where they or the features are stored."""
    recipe = run.features.recipe.model_dump(mode="json")
    backbone = recipe.pop("backbone")
    return {**recipe, **{f"backbone {key}": backbone[key] for key in backbone.keys() - {"weights", "online"}}}


def _settings(_: Bundle, run: RunRecord) -> dict[str, Any]:
    return {**run.settings, "classes": sorted(run.data.classes)}


def _names(_: Bundle, run: RunRecord) -> dict[str, Any]:
    return {"title": run.cell.title, "method": run.cell.variant_of}

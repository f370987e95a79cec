"""Confidence intervals and significance tests of a report."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nfbench.metrics import Named
from nfbench.plan.cells import Cell
from nfbench.plan.paths import Paths
from nfbench.results.bootstrap import Interval, auroc_interval, auroc_kernel
from nfbench.results.files import ImageScore, ImageValue, file_of, read_rows
from nfbench.results.statistics import Unit, blocks, paired_tests, rank_methods

__all__ = ["ALL", "DIGITS", "intervals", "tests"]

ALL = ""
"""Placeholder for all datasets, or all backbones."""
DIGITS = 8
"""Number of stored decimals. The page shows two; with three, the second would be rounded twice."""
_UNITS: tuple[Unit, ...] = ("category", "run", "image")
_CELL = ["setting", "dataset", "category", "method", "backbone", "seed"]


def intervals(
    cells: Sequence[Cell], paths: Paths, system: Callable[..., int], category: Callable[..., int], results: pd.DataFrame
) -> list[dict[str, Any]]:
    """Compute intervals of the last epoch's image AUROC over images, by system, for each category, dataset, and all.

    The kernel is the mean over seeds. Systems without scores, or with different test images by seed, get no interval.
    """
    names = results.drop_duplicates(["setting", "method", "backbone"]).set_index(["setting", "method", "backbone"])
    found = []
    for key, of_system in _grouped(cells, lambda c: (c.setting, c.method, c.backbone)):
        row = names.loc[key]
        number = system((*key, row.title, row.variant_of, row.method_title))
        everything: list[list[np.ndarray]] = []
        for dataset, of_dataset in _grouped(of_system, lambda c: c.dataset):
            kernels = {name: _kernel(group, paths) for name, group in _grouped(of_dataset, lambda c: c.category)}
            whole = [kernel for kernel in kernels.values() if kernel is not None]
            for name, kernel in kernels.items():
                if kernel is not None:
                    place = {"system": number, "category": category((dataset, name))}
                    found.append({**place, **_percent(auroc_interval([kernel]))})
            everything.append(whole if len(whole) == len(kernels) else [])
            found += _over(number, dataset, everything[-1:])
        if len(everything) > 1:
            found += _over(number, ALL, everything)
    return found


def _over(system: int, dataset: str, kernels: Sequence[list[np.ndarray]]) -> list[dict[str, Any]]:
    """Interval of the mean over all categories; none if a category has no kernel."""
    if not all(kernels):
        return []
    interval = auroc_interval([kernel for of_dataset in kernels for kernel in of_dataset])
    return [{"system": system, "dataset": dataset, **_percent(interval)}]


def tests(results: pd.DataFrame, metrics: Sequence[Named], paths: Paths) -> list[dict[str, Any]]:
    """Compute paired tests and ranks of the methods of a setting on one backbone, for each dataset and all datasets.

    If each method has its own backbone, all methods are also compared under the backbone ``ALL``. Metrics with values
    by image are also compared over images, at the last epoch, if the runs kept these values.
    """
    found = []
    by_image = _values_by_image(results, metrics, paths)
    for (setting, selection), part in results[results.metric.isin([m.name for m in metrics])].groupby(
        ["setting", "selection"]
    ):
        for dataset in _or_all(part.dataset):
            of_dataset = part[part.dataset == dataset] if dataset else part
            for backbone in _backbones(of_dataset):
                chosen = of_dataset[of_dataset.backbone == backbone] if backbone else of_dataset
                place = {"setting": setting, "selection": selection, "dataset": dataset, "backbone": backbone}
                found += [{**place, **test} for test in _tests(chosen, metrics, by_image)]
    return found


def _tests(
    results: pd.DataFrame, metrics: Sequence[Named], by_image: Mapping[str, pd.DataFrame]
) -> Iterator[dict[str, Any]]:
    for named in metrics:
        of_metric = results[results.metric == named.name]
        for unit in _UNITS:
            if unit == "image":
                if named.name not in by_image or not (of_metric.selection == "last").all():
                    continue
                of_metric = of_metric[_CELL].merge(by_image[named.name], on=_CELL)
            values = named.metric.unit.factor * blocks(of_metric, unit)
            if values.shape[1] < 2 or not len(values):
                continue
            ranking = rank_methods(named.sign * values)
            yield {
                "metric": named.name,
                "unit": unit,
                "n": len(values),
                "methods": list(values.columns),
                "pairs": [
                    [
                        *(t.first, t.second, round(t.difference, DIGITS)),
                        *(t.wins, t.losses)[:: named.sign],
                        *(_short(t.p), _short(t.p_holm)),
                    ]
                    for t in paired_tests(values)
                ],
                "ranking": ranking
                and {
                    "ranks": {name: round(rank, DIGITS) for name, rank in ranking.ranks.items()},
                    "p": _short(ranking.p),
                    "critical": round(ranking.critical_difference, DIGITS),
                    "groups": [list(group) for group in ranking.groups],
                },
            }


def _values_by_image(results: pd.DataFrame, metrics: Sequence[Named], paths: Paths) -> dict[str, pd.DataFrame]:
    """Values of images by metric, with the columns ``_CELL``, ``image`` and ``value``; those that runs have left."""
    if not any(named.metric.by_image for named in metrics):
        return {}
    rows: dict[str, list[tuple[Any, ...]]] = {}
    for key in results[_CELL].drop_duplicates().itertuples(index=False):
        run = paths.run_record(Cell(*key)).parent
        for row in read_rows(ImageValue, run) if (run / file_of(ImageValue)).is_file() else []:
            rows.setdefault(row.metric, []).append((*key, row.image, row.value))
    return {metric: pd.DataFrame(found, columns=[*_CELL, "image", "value"]) for metric, found in rows.items()}


def _backbones(results: pd.DataFrame) -> list[str]:
    """Backbones with at least two methods, and ``ALL`` if each method has a single one."""
    by_method = results.groupby("method").backbone.nunique()
    counts = results.groupby("backbone", sort=False).method.nunique()
    shared = list(counts[counts > 1].index)
    apart = len(by_method) > 1 and by_method.max() == 1 and len(counts) > 1
    return [*shared, *([ALL] if apart else [])]


def _or_all(names: pd.Series) -> list[str]:
    found = list(names.unique())
    return [*found, ALL] if len(found) > 1 else found


def _grouped(cells: Sequence[Cell], key: Callable[[Cell], Any]) -> list[tuple[Any, list[Cell]]]:
    groups: dict[Any, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(key(cell), []).append(cell)
    return list(groups.items())


def _kernel(cells: Sequence[Cell], paths: Paths) -> np.ndarray | None:
    """Mean kernel over the seeds of a category; None if their test images differ."""
    found = [_scores(paths.run_record(cell).parent) for cell in cells]
    read = [scores for scores in found if scores is not None]
    if len(read) < len(found) or len({images for images, _, _ in read}) > 1:
        return None
    kernels = [auroc_kernel(scores, labels) for _, labels, scores in read]
    return np.mean(kernels, axis=0) if kernels[0].size else None


def _scores(run: Path) -> tuple[tuple[str, ...], np.ndarray, np.ndarray] | None:
    """Images, labels and the method's own scores of a run; None if the run has no scores."""
    rows = read_rows(ImageScore, run) if (run / file_of(ImageScore)).is_file() else []
    if not rows:
        return None
    images, labels, _, scores, *_ = zip(*rows, strict=True)
    return images, np.array(labels), np.array(scores)


def _percent(interval: Interval) -> dict[str, float]:
    return {name: round(100 * value, DIGITS) for name, value in interval._asdict().items()}


def _short(value: float) -> float:
    return float(f"{value:.3g}")

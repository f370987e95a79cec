"""Placeholder results of a complete experiment, to check its tables before anything runs."""

from collections.abc import Collection
from itertools import product
from typing import Any

import pandas as pd

from nfbench.blocks.method import Method, resolve_settings
from nfbench.config import Bench
from nfbench.core.registry import exported
from nfbench.metrics import find_metric
from nfbench.plan.cells import Cell, cells_of, expand_blocks, members
from nfbench.results.latency import LATENCIES

__all__ = ["has_maps", "official_cells", "official_results"]

_VALUE = 0.5
_SELECTIONS = ("last", "val", "oracle")


def official_results(bench: Bench, experiment: str, metrics: Collection[str]) -> pd.DataFrame:
    """Make placeholder results over all official categories, with the columns of ``aggregate``.

    Args:
        bench: configuration and experiments.
        experiment: name of the experiment.
        metrics: metrics of all runs at each selection; methods without maps have no metrics that need masks.
    """
    cells = official_cells(bench, experiment)
    without_maps = {name for name in {cell.method for cell in cells} if not has_maps(bench, name)}
    of_maps = {metric for metric in metrics if find_metric(metric).metric.needs_masks}
    common = {cell: _columns(bench, cell) for cell in cells}
    return pd.DataFrame(
        {**common[cell], "selection": selection, "metric": metric, "value": _VALUE}
        for cell, selection, metric in product(cells, _SELECTIONS, metrics)
        if cell.method not in without_maps or metric not in of_maps
    )


def official_cells(bench: Bench, experiment: str) -> list[Cell]:
    """Cells of an experiment over all official categories, including those not on disk."""

    def official(dataset: str) -> list[str]:
        union = bench.dataset(dataset).union
        return list(members(bench, dataset, official) if union else bench.official_categories(dataset))

    return cells_of(expand_blocks(bench, experiment, official))


def has_maps(bench: Bench, method: str) -> bool:
    """Whether a method or variant makes anomaly maps."""
    variant = bench.variant(method)
    method_type: type[Method] = exported("nfbench.methods", variant.method, "METHOD")
    return method_type.makes_maps(resolve_settings(variant.method, overrides=variant.settings))


def _columns(bench: Bench, cell: Cell) -> dict[str, Any]:
    variant = bench.variant(cell.method)
    title = exported("nfbench.methods", variant.method, "METHOD").title
    search, anomalies = variant.search, variant.anomalies
    first = search is None or search.backbones[0].tag == cell.backbone
    return {
        **vars(cell),
        "variant_of": variant.method,
        "method_title": title,
        "title": variant.title or title,
        "input_size": 256,
        "levels": "",
        "weights": "pretrained",
        **dict.fromkeys(("n_train", "n_val", "n_classes", "n_test", "n_test_normal"), 1),
        **dict.fromkeys(("n_regions", "n_defects", "image_side", "n_validation"), 1),
        "n_real": anomalies.real if anomalies else 0,
        "generator": (anomalies.generator if anomalies else None) or "",
        "search": search.objective if search else "",
        "search_metric": search.metric if search else "",
        "search_chosen": first,
        **dict.fromkeys(("search_trials", "search_pruned", "search_failed"), 0),
        "search_seconds": 0.0,
        "epochs": 1,
        **dict.fromkeys(("image_score", "threshold_images"), ""),
        "parameters": 1,
        **dict.fromkeys(("train_seconds", "score_images_per_second", "peak_memory_mb", *LATENCIES), 1.0),
        "machine": "none",
    }

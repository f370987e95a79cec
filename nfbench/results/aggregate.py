"""Aggregation of run records to one table of results."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from nfbench.core.errors import NfbenchError
from nfbench.core.files import atomic_path
from nfbench.core.provenance import describe_machine, provenance
from nfbench.plan.cells import Cell
from nfbench.results.latency import LATENCIES
from nfbench.results.ledger import Account
from nfbench.results.record import RunRecord

__all__ = ["aggregate", "holes_of", "of_unchanged", "read_results", "write_results"]


def aggregate(records: Iterable[RunRecord]) -> pd.DataFrame:
    """Collect all metrics of all cells, one row per cell, selection and metric.

    Returns:
        Columns of the cell, with an empty ``condition`` for unchanged images; ``variant_of``, ``method_title``,
        ``title``, ``selection``, ``metric``; ``value`` as in ``run.json`` (NaN where undefined); and columns for
        captions: ``input_size`` (the shorter side), ``levels``, ``weights``, ``n_train``, ``n_val``, ``n_classes``
        (categories that the model was trained on), ``n_test``, ``n_test_normal`` (the normal ones of them),
        ``n_regions``, ``n_defects`` (kinds of defect), ``image_side`` (longest, in pixels), ``n_real`` (anomalous test
        images used for training, excluded from ``n_test`` and ``n_regions``),
        ``generator`` (of pseudo-anomalies; empty without), ``threshold_images`` (normal images that thresholds come
        from; empty without maps), ``epochs``, ``image_score``, ``parameters``, ``train_seconds``,
        ``score_images_per_second``, ``peak_memory_mb``, ``machine``; ``latency_ms`` of an image, ``latency_p95_ms``,
        ``fps_32``, ``flops`` and ``model_mb``, NaN if not measured. For settings from a search: its objective
        ``search`` (empty without), ``search_metric``, ``search_chosen`` (whether the backbone is the best one),
        ``search_trials``, the numbers ``search_pruned`` and ``search_failed`` of these, ``search_seconds``, and
        ``n_validation`` (test images that trials were compared by, also excluded).
    """
    return pd.DataFrame([row for record in records for row in _rows(record)])


def write_results(path: Path, results: pd.DataFrame, origin: str = "", holes: Sequence[Account] = ()) -> None:
    """Write results as Parquet, atomically.

    ``attrs`` store the ``command`` that aggregates them, their ``origin``, the ``holes`` that tables mark, and a hash
    of all values.

    Args:
        path: file to write.
        results: results from ``aggregate``.
        origin: short hash of the spec of the aggregation.
        holes: expected cells that are not done.
    """
    accounts = [{**asdict(hole), "log": "", "tail": ""} for hole in holes]
    results.attrs = {
        "command": provenance()["command"],
        "origin": origin,
        "holes": accounts,
        "sha256": _hash_of(results, origin, accounts),
    }
    with atomic_path(path) as temporary:
        results.to_parquet(temporary, index=False)


def read_results(path: Path, origin: str = "") -> pd.DataFrame:
    """Read results.

    Args:
        path: file that ``write_results`` wrote.
        origin: short hash of the expected spec of the aggregation; empty accepts any.

    Raises:
        NfbenchError: the file is missing or damaged, or belongs to an older version or to other runs.
    """
    again = f"rebuild it with 'nfbench aggregate_results {path.parent.name}'"
    if not path.is_file():
        raise NfbenchError(f"{path} is missing; {again}")
    try:
        results = pd.read_parquet(path)
    except Exception as error:  # pyarrow and pandas raise many types for damaged files
        raise NfbenchError(f"{path} cannot be read ({type(error).__name__}); {again}") from error
    if "sha256" not in results.attrs:
        raise NfbenchError(f"{path} was written by an older version; {again}")
    if results.attrs["sha256"] != _hash_of(results, results.attrs["origin"], results.attrs["holes"]):
        raise NfbenchError(f"{path} has changed since it was written; {again}")
    if origin and results.attrs["origin"] != origin:
        raise NfbenchError(
            f"{path} was aggregated from other runs, settings, images or code; run 'snakemake --cores all "
            f"{path.parent.name}'"
        )
    return results


def holes_of(results: pd.DataFrame) -> tuple[Account, ...]:
    """Expected cells that were not done when results were aggregated."""
    return tuple(Account(**{**hole, "cell": Cell(**hole["cell"])}) for hole in results.attrs["holes"])


def of_unchanged(results: pd.DataFrame) -> pd.DataFrame:
    """Results on unchanged images, without those of conditions; older results have no conditions."""
    return results[results.condition == ""] if "condition" in results else results


def _hash_of(results: pd.DataFrame, *others: Any) -> str:
    """Hash of all values in order, and of the other attributes."""
    return hashlib.sha256(f"{results.to_csv(index=False)}{others}".encode(errors="surrogateescape")).hexdigest()


def _rows(record: RunRecord) -> list[dict[str, Any]]:
    anomalies, search = record.data.anomalies, record.search
    common = {
        **record.cell.model_dump(),
        "condition": record.cell.condition,
        "input_size": record.features.recipe.backbone.size.shorter,
        "levels": ",".join(map(str, record.features.recipe.backbone.levels or ())),
        "weights": record.features.recipe.weights,
        "n_train": record.data.n_train,
        "n_val": record.data.n_val,
        "n_classes": len(record.data.classes),
        "n_test": record.data.n_test_normal + record.data.n_test_anomalous,
        "n_test_normal": record.data.n_test_normal,
        "n_regions": record.data.n_regions,
        "n_defects": record.data.n_defects,
        "image_side": record.data.image_side,
        "n_real": len(anomalies.real) if anomalies else 0,
        "generator": (anomalies.generator if anomalies else None) or "",
        "threshold_images": record.segmentation.threshold_images.source,
        "search": search.objective if search else "",
        "search_metric": search.metric if search else "",
        "search_chosen": search.chosen if search else True,
        "search_trials": sum(search.trials.values()) if search else 0,
        "search_pruned": search.trials["pruned"] if search else 0,
        "search_failed": search.trials["failed"] if search else 0,
        "search_seconds": search.seconds if search else 0.0,
        "n_validation": len(search.validation) if search else 0,
        "epochs": record.epochs,
        "image_score": record.settings.get("image_score", ""),
        "parameters": record.parameters["total"],
        "train_seconds": record.seconds["train"],
        "score_images_per_second": record.images_per_second["score"],
        "peak_memory_mb": max(record.peak_memory_mb.values()),
        **(record.latency.columns if record.latency else dict.fromkeys(LATENCIES, float("nan"))),
        "machine": describe_machine(record.provenance["score"]),
    }
    return [
        {**common, "selection": name, "metric": metric, "value": float("nan") if value is None else value}
        for name, selection in record.selections.items()
        for metric, value in selection.metrics.items()
    ]

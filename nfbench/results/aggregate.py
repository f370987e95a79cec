"""From run records to one table of results."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from nfbench.core.errors import NfbenchError
from nfbench.core.files import atomic_path
from nfbench.core.provenance import describe_machine, provenance
from nfbench.results.record import RunRecord

__all__ = ["aggregate", "read_results", "write_results"]


def aggregate(records: Iterable[RunRecord]) -> pd.DataFrame:
    """All metrics of all cells, one row per cell, selection and metric.

    Returns:
        Columns of the cell, ``variant_of``, ``method_title``, ``title``, ``selection``, ``metric``, ``value`` in [0,
        1] (NaN where undefined), and what captions need to say: ``input_size``, ``levels``, ``weights``, ``n_train``,
        ``n_val``, ``n_classes`` (categories that the model was trained on), ``n_test``, ``n_regions``, ``n_real``
        (anomalous test images that were learned from, and left out of ``n_test`` and ``n_regions``), ``generator`` (of
        pseudo-anomalies, empty without), ``epochs``, ``image_score``, ``parameters``, ``train_seconds``,
        ``score_images_per_second``, ``peak_memory_mb``, ``machine``. Of the search that settings come from: its
        objective ``search`` (empty without), ``search_metric``, ``search_chosen`` (whether the backbone is its best
        one), ``search_trials`` and how many of them are ``search_pruned`` and ``search_failed``, ``search_seconds``,
        and ``n_validation`` (test images that it was judged by, and that are left out as well).
    """
    return pd.DataFrame([row for record in records for row in _rows(record)])


def write_results(path: Path, results: pd.DataFrame) -> None:
    """Writes results as Parquet, atomically, with the command that gathers them (``attrs["command"]``)."""
    results.attrs["command"] = provenance()["command"]
    with atomic_path(path) as temporary:
        results.to_parquet(temporary, index=False)


def read_results(path: Path) -> pd.DataFrame:
    """Reads results; a file that is missing, or of an older version, is an error that names it."""
    if not path.is_file():
        raise NfbenchError(f"{path} is missing; make it with 'nfbench aggregate_results'")
    results = pd.read_parquet(path)
    if "command" not in results.attrs:
        raise NfbenchError(f"{path} is of an older version; make it again with 'nfbench aggregate_results'")
    return results


def _rows(record: RunRecord) -> list[dict[str, Any]]:
    anomalies, search = record.data.anomalies, record.search
    common = {
        **record.cell.model_dump(),
        "input_size": record.features.input_size,
        "levels": ",".join(map(str, record.features.levels)),
        "weights": record.features.weights,
        "n_train": record.data.n_train,
        "n_val": record.data.n_val,
        "n_classes": len(record.data.classes),
        "n_test": record.data.n_test_normal + record.data.n_test_anomalous,
        "n_regions": record.data.n_regions,
        "n_real": len(anomalies.real) if anomalies else 0,
        "generator": (anomalies.generator if anomalies else None) or "",
        "search": search.objective if search else "",
        "search_metric": search.metric if search else "",
        "search_chosen": search.chosen if search else True,
        "search_trials": sum(search.trials.values()) if search else 0,
        "search_pruned": search.trials["pruned"] if search else 0,
        "search_failed": search.trials["failed"] if search else 0,
        "search_seconds": search.seconds if search else 0.0,
        "n_validation": len(search.validation) if search else 0,
        "epochs": record.settings["epochs"],
        "image_score": record.settings.get("image_score", ""),
        "parameters": record.parameters["total"],
        "train_seconds": record.seconds["train"],
        "score_images_per_second": record.images_per_second["score"],
        "peak_memory_mb": max(record.peak_memory_mb.values()),
        "machine": describe_machine(record.provenance["evaluate"]),
    }
    return [
        {**common, "selection": name, "metric": metric, "value": float("nan") if value is None else value}
        for name, selection in record.selections.items()
        for metric, value in selection.metrics.items()
    ]

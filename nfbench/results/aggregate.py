"""From run records to one table of results."""

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

__all__ = ["aggregate", "holes_of", "read_results", "write_results"]


def aggregate(records: Iterable[RunRecord]) -> pd.DataFrame:
    """All metrics of all cells, one row per cell, selection and metric.

    Returns:
        Columns of the cell, ``variant_of``, ``method_title``, ``title``, ``selection``, ``metric``, ``value`` as in
        ``run.json`` (NaN where undefined), and what captions need to say: ``input_size``, ``levels``, ``weights``,
        ``n_train``, ``n_val``, ``n_classes`` (categories that the model was trained on), ``n_test``,
        ``n_test_normal`` of these, ``n_regions``, ``n_defects`` (kinds of defect), ``image_side`` (longest, in pixels),
        ``n_real`` (anomalous test images that were learned from, and left out of ``n_test`` and ``n_regions``),
        ``generator`` (of pseudo-anomalies, empty without), ``threshold_images`` (source of thresholds that are chosen
        without anomalies, empty without maps), ``epochs``, ``image_score``, ``parameters``,
        ``train_seconds``, ``score_images_per_second``, ``peak_memory_mb``, ``machine``; ``latency_ms`` of an image,
        ``latency_p95_ms``, ``fps_32``, ``flops`` and ``model_mb``, NaN where they were not measured. Of the search that
        settings come from: its objective ``search`` (empty without), ``search_metric``, ``search_chosen`` (whether the
        backbone is its best one), ``search_trials`` and how many of them are ``search_pruned`` and ``search_failed``,
        ``search_seconds``, and ``n_validation`` (test images that it was judged by, and that are left out as well).
    """
    return pd.DataFrame([row for record in records for row in _rows(record)])


def write_results(path: Path, results: pd.DataFrame, origin: str = "", holes: Sequence[Account] = ()) -> None:
    """Write results as Parquet, atomically.

    ``attrs`` say what they are: the ``command`` that gathers them, their ``origin``, ``holes`` that tables mark, and
    the hash of all values.

    Args:
        path: file to write.
        results: what ``aggregate`` returns.
        origin: short hash of what the gathering was told.
        holes: cells that ought to be done and are not.
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
        origin: short hash of what the gathering was to be told; of any where it is empty.

    Raises:
        NfbenchError: the file is missing, damaged, of an older version, or of other runs than those asked for.
    """
    again = f"make it again with 'nfbench aggregate_results {path.parent.name}'"
    if not path.is_file():
        raise NfbenchError(f"{path} is missing; {again}")
    try:
        results = pd.read_parquet(path)
    except Exception as error:  # pyarrow and pandas raise a dozen kinds for damaged files
        raise NfbenchError(f"{path} cannot be read ({type(error).__name__}); {again}") from error
    if "sha256" not in results.attrs:
        raise NfbenchError(f"{path} is of an older version; {again}")
    if results.attrs["sha256"] != _hash_of(results, results.attrs["origin"], results.attrs["holes"]):
        raise NfbenchError(f"{path} has changed since it was written; {again}")
    if origin and results.attrs["origin"] != origin:
        raise NfbenchError(
            f"{path} was gathered from other runs, or with other settings, images or code; run 'snakemake --cores all "
            f"{path.parent.name}'"
        )
    return results


def holes_of(results: pd.DataFrame) -> tuple[Account, ...]:
    """Cells that were not done when results were gathered."""
    return tuple(Account(**{**hole, "cell": Cell(**hole["cell"])}) for hole in results.attrs["holes"])


def _hash_of(results: pd.DataFrame, *others: Any) -> str:
    """Hash of all values, in their order, and of what goes with them."""
    return hashlib.sha256(f"{results.to_csv(index=False)}{others}".encode(errors="surrogateescape")).hexdigest()


def _rows(record: RunRecord) -> list[dict[str, Any]]:
    anomalies, search = record.data.anomalies, record.search
    common = {
        **record.cell.model_dump(),
        "input_size": record.features.recipe.backbone.input_size,
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

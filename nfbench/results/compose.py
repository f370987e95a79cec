"""The run record of a finished run, from what its stages know of it."""

from pathlib import Path
from typing import Any

from nfbench.core.provenance import file_sha256, provenance
from nfbench.results.record import RunRecord
from nfbench.scoring.evaluate import select
from nfbench.scoring.protocol import Scored

__all__ = ["compose_record"]


def compose_record(
    training: dict[str, Any],
    train_features: dict[str, Any],
    test_features: dict[str, Any],
    manifest: Path,
    by_epoch: dict[int, dict[str, float | None]],
    scored: Scored,
    memory: dict[str, float],
) -> RunRecord:
    """Joins what training and evaluation know of a run.

    Args:
        training: contents of ``training.json`` with the cell that was evaluated, and ``history``, rows with ``epoch``
            and ``val_log_likelihood``.
        train_features: description of the category's training features.
        test_features: description of its test features.
        manifest: of the category.
        by_epoch: metrics of each kept epoch.
        scored: of the last epoch.
        memory: largest of the evaluation, in MB by kind.
    """
    truth = scored.truth
    n_anomalous = int(truth.labels.sum())
    pseudo = training["classes"][training["cell"]["category"]]["pseudo"]
    described = {key: test_features[key] for key in ("backbone", "weights", "weights_sha256", "levels", "input_size")}
    return RunRecord(
        cell=training["cell"],
        settings=training["settings"],
        selections=select(by_epoch, {row["epoch"]: row["val_log_likelihood"] for row in training["history"]}),
        by_epoch=by_epoch,
        segmentation=_segmentation(scored),
        data={
            "manifest": str(manifest),
            "manifest_sha256": file_sha256(manifest),
            "n_train": training["n_train"],
            "n_val": training["n_val"],
            "classes": {name: found["key"] for name, found in training["classes"].items()},
            "n_test_normal": len(truth.entries) - n_anomalous,
            "n_test_anomalous": n_anomalous,
            "n_regions": truth.n_regions if truth.has_masks else None,
            "resolution": "original",
            "anomalies": training["anomalies"],
        },
        features={
            **described,
            "train_key": train_features["key"],
            "test_key": test_features["key"],
            "pseudo_key": pseudo and pseudo["key"],
        },
        parameters=training["parameters"],
        seconds={
            "extract_train": train_features["seconds"],
            "extract_test": test_features["seconds"],
            **({"extract_pseudo": pseudo["seconds"]} if pseudo else {}),
            "train": training["seconds"]["train"],
            **scored.seconds,
        },
        images_per_second={
            "extract": _rate(test_features["n_images"], test_features["seconds"]),
            "train": _rate(training["n_items"] * len(training["history"]), training["seconds"]["train"]),
            "score": _rate(len(truth.entries), scored.seconds["score"]),
        },
        peak_memory_mb={
            **{f"train_{kind}": value for kind, value in training["peak_memory_mb"].items()},
            **{f"evaluate_{kind}": value for kind, value in memory.items()},
        },
        contour=training["contour"],
        provenance={
            "extract": train_features["provenance"],
            "train": training["provenance"],
            "evaluate": provenance(),
        },
        search=training["search"],
    )


def _segmentation(scored: Scored) -> dict[str, Any]:
    """Thresholds and false alarms of the last epoch."""
    normals = [index for index, label in enumerate(scored.truth.labels) if not label]
    false_alarms = {
        name: {
            "per_normal_image": scored.evaluation.metrics[f"false_alarms_{name}"],
            "images": {scored.truth.entries[index].image: int(counts[index]) for index in normals if counts[index]},
        }
        for name, counts in scored.evaluation.detections.items()
    }
    return {"thresholds": scored.evaluation.thresholds, "false_alarms": false_alarms}


def _rate(count: int, seconds: float) -> float:
    return round(count / max(seconds, 1e-9), 2)

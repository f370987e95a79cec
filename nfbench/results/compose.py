"""Construction of the run record from the records of its stages."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from nfbench.core.provenance import file_sha256, provenance
from nfbench.core.seals import KnownFile
from nfbench.metrics import find_metric
from nfbench.plan.specs import EvaluateSpec
from nfbench.results.files import Epoch
from nfbench.results.record import RunRecord, SpecsRecord
from nfbench.results.scored import ScoringRecord
from nfbench.scoring.protocol import Scored
from nfbench.training.record import TrainingRecord

__all__ = ["Evaluated", "compose_record", "select"]

_Metrics = dict[str, float | None]


class Evaluated(NamedTuple):
    """Everything known about a run at the end of its evaluation.

    Attributes:
        spec: spec of the evaluation.
        training: record of the training.
        history: history of the training.
        scoring: record of the scores.
        by_epoch: metrics of each kept epoch.
        scored: scores of the last epoch.
    """

    spec: EvaluateSpec
    training: TrainingRecord
    history: Sequence[Epoch]
    scoring: ScoringRecord
    by_epoch: dict[int, dict[str, float | None]]
    scored: Scored


def compose_record(found: Evaluated, memory: Mapping[str, float], written: Mapping[str, KnownFile]) -> RunRecord:
    """Compose the run record from training, scoring and evaluation.

    Args:
        found: records and results of the stages.
        memory: peak memory of the evaluation in MB, by kind.
        written: files that the evaluation wrote.
    """
    spec, training, scoring, scored = found.spec, found.training, found.scoring, found.scored
    truth, features = scored.truth, scoring.features
    n_anomalous = int(truth.labels.sum())
    own = training.classes[spec.cell.category]
    return RunRecord(
        cell={
            **vars(spec.cell),
            "variant_of": training.spec.method,
            "method_title": training.method_title,
            "title": spec.title or training.method_title,
        },
        settings=training.settings,
        selections=select(found.by_epoch, {row.epoch: row.val_log_likelihood for row in found.history}),
        by_epoch=found.by_epoch,
        segmentation=_segmentation(scored),
        data={
            "manifest": spec.manifest,
            "manifest_sha256": file_sha256(spec.manifest),
            "n_train": training.n_train,
            "n_val": training.n_val,
            "n_validation": own.n_validation,
            "classes": {name: one.key for name, one in training.classes.items()},
            "n_test_normal": len(truth.entries) - n_anomalous,
            "n_test_anomalous": n_anomalous,
            "n_regions": truth.n_regions if truth.has_masks else None,
            "n_defects": len({entry.defect for entry in truth.entries if entry.label}),
            "image_side": max((max(entry.height, entry.width) for entry in truth.entries), default=0),
            "resolution": "original",
            "anomalies": training.anomalies,
        },
        features={
            "recipe": features.recipe,
            "train_key": scoring.train_features.key,
            "test_key": features.key,
            "pseudo_key": own.pseudo_key,
        },
        parameters=training.parameters,
        seconds={
            "extract_train": scoring.train_features.seconds,
            "extract_test": features.seconds,
            **({} if own.pseudo_seconds is None else {"extract_pseudo": own.pseudo_seconds}),
            **{name: value for name, value in training.seconds.items() if name != "train_stage"},
            **scored.seconds,
        },
        images_per_second={
            "extract": _rate(features.n_images, features.seconds),
            "train": _rate(training.n_items * len(found.history), training.seconds["train"]),
            "score": _rate(len(truth.entries), scored.seconds["score"]),
        },
        peak_memory_mb={
            **{f"train_{kind}": value for kind, value in training.peak_memory_mb.items()},
            **{f"score_{kind}": value for kind, value in scoring.peak_memory_mb.items()},
            **{f"evaluate_{kind}": value for kind, value in memory.items()},
        },
        contour=scored.contour,
        provenance={
            "extract": scoring.train_features.provenance,
            "train": training.provenance,
            "score": scoring.provenance,
            "evaluate": provenance(torch.device("cpu")),
        },
        specs=_specs(found),
        search=training.search,
        latency=scoring.latency,
        written=written,
    )


def _specs(found: Evaluated) -> SpecsRecord:
    """Specs of all stages; features that no stage made have none."""
    own = [meta.spec for meta in (found.scoring.train_features, found.scoring.features) if meta.spec]
    extracted = [*found.training.extracted, *own]
    return SpecsRecord(
        extract=list({spec.features: spec for spec in extracted}.values()),
        study=found.training.study,
        train=found.training.spec,
        score=found.scoring.spec,
        evaluate=found.spec,
    )


def _segmentation(scored: Scored) -> dict[str, Any]:
    """Thresholds and false alarms of the last epoch."""
    normals = np.flatnonzero(scored.truth.labels == 0).tolist()
    false_alarms = {
        name: {
            "per_normal_image": float(counts[normals].mean()) if normals else None,
            "images": {scored.truth.entries[index].image: int(counts[index]) for index in normals if counts[index]},
        }
        for name, counts in scored.evaluation.detections.items()
    }
    images = {"source": scored.source, "n_images": len(scored.normal.rows)}
    return {"thresholds": scored.evaluation.thresholds, "false_alarms": false_alarms, "threshold_images": images}


def _rate(count: int, seconds: float) -> float:
    return round(count / max(seconds, 1e-9), 2)


def select(
    by_epoch: Mapping[int, _Metrics], val_log_likelihood: Mapping[int, float | None]
) -> dict[str, dict[str, Any]]:
    """Select metrics by each selection rule.

    Args:
        by_epoch: metrics of each kept epoch.
        val_log_likelihood: log-likelihood of held-out normal images by epoch; None without such images.

    Returns:
        ``last``: the last epoch; ``val``: the kept epoch with the best held-out log-likelihood, absent without held-out
        images; ``oracle``: the best value of each metric separately, as most papers report. Each has ``metrics`` and
        ``epoch`` (by metric for ``oracle``).
    """
    last = max(by_epoch)
    selections: dict[str, dict[str, Any]] = {"last": {"epoch": last, "metrics": by_epoch[last]}}
    held_out = {epoch: value for epoch in by_epoch if (value := val_log_likelihood.get(epoch)) is not None}
    if len(held_out) == len(by_epoch):
        best = max(held_out, key=held_out.__getitem__)
        selections["val"] = {"epoch": best, "metrics": by_epoch[best]}
    goodness = {
        name: {epoch: _goodness(name, metrics[name]) for epoch, metrics in by_epoch.items()} for name in by_epoch[last]
    }
    best_epochs = {name: max(found, key=found.__getitem__) for name, found in goodness.items()}
    selections["oracle"] = {
        "epoch": best_epochs,
        "metrics": {name: by_epoch[epoch][name] for name, epoch in best_epochs.items()},
    }
    return selections


def _goodness(metric: str, value: float | None) -> float:
    return -math.inf if value is None else find_metric(metric).sign * value

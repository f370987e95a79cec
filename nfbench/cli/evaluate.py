"""Evaluation: from a trained flow and cached test features to ``run.json`` and what goes with it.

With ``--save-maps`` it leaves ``maps.npy`` too, the maps of all test images.
"""

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nfbench.cli.options import Device, Threads
from nfbench.config import AnomaliesConfig
from nfbench.errors import NfbenchError
from nfbench.files import atomic_path, read_json
from nfbench.results.record import RunRecord, write_record

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import torch

    from nfbench.datasets.manifest import Entry
    from nfbench.features.cache import FeatureCache
    from nfbench.methods.base import Method
    from nfbench.scoring.evaluate import GroundTruth
    from nfbench.scoring.likelihoods import Positions
    from nfbench.scoring.protocol import Scored

__all__ = ["evaluate_run"]

_PSEUDO_IMAGES = 40


def evaluate_run(
    run: Annotated[Path, typer.Option(help="Folder of the run.")],
    train_features: Annotated[Path, typer.Option(help="meta.json of the training view, for the fair threshold.")],
    features: Annotated[Path, typer.Option(help="meta.json of the test view.")],
    manifest: Annotated[Path, typer.Option(help="Manifest of the category.")],
    pseudo_features: Annotated[Path | None, typer.Option(help="meta.json of the view of pseudo-anomalies.")] = None,
    save_maps: Annotated[bool, typer.Option(help="Keep the maps of all test images.")] = False,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Score the test images with every kept model and write the run record."""
    import numpy as np

    from nfbench.datasets.manifest import read_manifest
    from nfbench.device import peak_memory_mb, pick_device
    from nfbench.features.cache import FeatureCache
    from nfbench.methods.base import LevelShape, build_method, load_method, resolve_settings
    from nfbench.progress import progress
    from nfbench.results.artifacts import write_artifacts
    from nfbench.scoring.evaluate import GroundTruth
    from nfbench.scoring.gradients import GradientMaps
    from nfbench.scoring.protocol import Views, score_and_evaluate
    from nfbench.training.checkpoint import load_kept

    where = pick_device(device, threads)
    training = read_json(run / "training.json")
    train_cache, cache = FeatureCache(train_features), FeatureCache(features)
    pseudo = FeatureCache(pseudo_features) if pseudo_features else None
    for used in filter(None, (train_cache, cache, pseudo)):
        used.require_same_source(training["features"], run / "training.json")
    cell = training["cell"]
    settings = resolve_settings(cell["variant_of"], overrides=training["settings"])
    map_size = (cache.meta["input_size"], cache.meta["input_size"])
    shapes, initialization = [LevelShape(*shape) for shape in cache.shapes], training["initialization"]
    model = build_method(cell["variant_of"], shapes, settings, map_size, initialization).to(where).eval()
    everything = read_manifest(manifest)
    entries = {view: [entry for entry in everything if entry.split == view] for view in ("train", "test")}
    learned = set(training["anomalies"]["real"] if training["anomalies"] else ())
    unknown = sorted(learned - {entry.image for entry in entries["test"]})
    if unknown:
        raise NfbenchError(
            f"{run / 'training.json'}: learned from {unknown[0]}, which manifest {manifest} does not have in its test "
            "split; train again"
        )
    tested = [index for index, entry in enumerate(entries["test"]) if entry.image not in learned]
    truth = GroundTruth([entries["test"][index] for index in tested])
    levels = [level[tested] for level in cache.levels] if learned else cache.levels
    views = Views(train_cache.levels, levels)
    if model.localizes_by_gradient:
        localizers = [GradientMaps(model, images, cache.meta, where) for images in (entries["train"], truth.entries)]
        views = Views(train_cache.levels, levels, *localizers)

    made = _pseudo_positions(training, pseudo, everything, where)
    likelihoods = {"before": _likelihoods(model, levels, truth, made, where)}
    by_epoch: dict[int, dict[str, float | None]] = {}
    kept = load_kept(run / "checkpoints.safetensors")
    for epoch, state in progress(kept.items(), total=len(kept), label=f"evaluate {'/'.join(map(str, cell.values()))}"):
        scored = score_and_evaluate(load_method(model, state), views, truth, where)
        by_epoch[epoch] = scored.evaluation.metrics

    likelihoods["after"] = _likelihoods(model, levels, truth, made, where)
    write_artifacts(run, scored, likelihoods)
    if save_maps:
        with atomic_path(run / "maps.npy") as temporary:
            np.save(temporary, scored.test.maps)
    history = _history(run / "history.csv")
    record = _record(training, cache.meta, manifest, by_epoch, scored, history, peak_memory_mb(where))
    write_record(run / "run.json", record)


def _likelihoods(
    model: "Method",
    levels: "Sequence[np.ndarray]",
    truth: "GroundTruth",
    pseudo: "list[Positions]",
    device: "torch.device",
) -> list[tuple[Any, ...]]:
    """Histograms of the log-likelihoods of positions; none of methods without such, or where masks are missing."""
    from nfbench.methods.base_likelihood import FibreFlowMethod
    from nfbench.scoring.likelihoods import likelihood_histograms, positions_of_test

    if not isinstance(model, FibreFlowMethod) or not truth.has_masks:
        return []
    images = [positions_of_test(levels, truth, model.map_size[0]), *pseudo]
    return list(likelihood_histograms(model, images, device))


def _pseudo_positions(
    training: dict[str, Any], pseudo: "FeatureCache | None", entries: "Sequence[Entry]", device: "torch.device"
) -> "list[Positions]":
    """Positions of some pseudo-anomalies: the first cached views, or new ones where they are made online."""
    import torch

    from nfbench.anomalies.base import make_generator
    from nfbench.features.online import OnlineFeatures, pseudo_anomalies
    from nfbench.scoring.likelihoods import Positions

    groups = (None, "pseudo")
    if pseudo is not None:
        first = [level[:_PSEUDO_IMAGES, 0] for level in pseudo.levels]
        return [Positions(first, pseudo.masks[:_PSEUDO_IMAGES, 0], groups)]
    found = training["anomalies"]
    if found is None or found["generator"] is None:
        return []
    config = AnomaliesConfig(generator=found["generator"], real=len(found["real"]))
    size = training["features"]["input_size"]
    generator, _ = make_generator(config, entries, training["cell"]["seed"], size)
    source = OnlineFeatures(pseudo_anomalies(generator), len(generator), training["features"], device)
    images = torch.arange(min(_PSEUDO_IMAGES, len(generator)))
    levels, masks = source.read(images, images)  # any seeds do
    return [Positions(levels, masks.cpu().numpy(), groups)]


def _record(
    training: dict[str, Any],
    test_features: dict[str, Any],
    manifest: Path,
    by_epoch: dict[int, dict[str, float | None]],
    scored: "Scored",
    history: list[dict[str, Any]],
    memory: dict[str, float],
) -> RunRecord:
    """Joins what training and evaluation know of a run."""
    from nfbench.provenance import file_sha256, provenance
    from nfbench.scoring.evaluate import select

    truth = scored.truth
    n_anomalous = int(truth.labels.sum())
    train_features = training["features"]
    described = {key: test_features[key] for key in ("backbone", "weights", "weights_sha256", "levels", "input_size")}
    return RunRecord(
        cell=training["cell"],
        settings=training["settings"],
        selections=select(by_epoch, {row["epoch"]: row["val_log_likelihood"] for row in history}),
        by_epoch=by_epoch,
        segmentation=_segmentation(scored),
        data={
            "manifest": str(manifest),
            "manifest_sha256": file_sha256(manifest),
            "n_train": training["n_train"],
            "n_val": training["n_val"],
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
            "pseudo_key": training["pseudo"] and training["pseudo"]["key"],
        },
        parameters=training["parameters"],
        seconds={
            "extract_train": train_features["seconds"],
            "extract_test": test_features["seconds"],
            **({"extract_pseudo": training["pseudo"]["seconds"]} if training["pseudo"] else {}),
            "train": training["seconds"]["train"],
            **scored.seconds,
        },
        images_per_second={
            "extract": _rate(test_features["n_images"], test_features["seconds"]),
            "train": _rate(training["n_items"] * len(history), training["seconds"]["train"]),
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
    )


def _segmentation(scored: "Scored") -> dict[str, Any]:
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


def _history(path: Path) -> list[dict[str, Any]]:
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    return [
        {
            "epoch": int(row["epoch"]),
            "val_log_likelihood": float(row["val_log_likelihood"]) if row["val_log_likelihood"] else None,
        }
        for row in rows
    ]


def _rate(count: int, seconds: float) -> float:
    return round(count / max(seconds, 1e-9), 2)

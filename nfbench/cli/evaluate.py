"""Evaluation: from a trained flow and cached test features to ``run.json``.

Leaves beside it ``scores.csv`` (image scores), ``examples.npz`` (maps of a few images, for figures) and, on request,
``maps.npy`` (maps of all test images).
"""

import csv
import io
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nfbench.cli.options import Device, Threads
from nfbench.files import atomic_path, read_json, write_text
from nfbench.results.record import RunRecord, write_record

if TYPE_CHECKING:
    import numpy as np

    from nfbench.scoring.evaluate import GroundTruth
    from nfbench.scoring.maps import ScoredImages

__all__ = ["evaluate_run"]

_EXAMPLE_DEFECTS = 4


def evaluate_run(
    run: Annotated[Path, typer.Option(help="Folder of the run.")],
    features: Annotated[Path, typer.Option(help="meta.json of the test view.")],
    manifest: Annotated[Path, typer.Option(help="Manifest of the category.")],
    save_maps: Annotated[bool, typer.Option(help="Keep the maps of all test images.")] = False,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Score the test images with every kept model and write the run record."""
    from nfbench.datasets.manifest import read_manifest
    from nfbench.device import peak_memory_mb, pick_device
    from nfbench.features.cache import FeatureCache
    from nfbench.methods.base import LevelShape, build_method, load_method, resolve_settings
    from nfbench.scoring.evaluate import GroundTruth, evaluate
    from nfbench.scoring.maps import score_images
    from nfbench.training.checkpoint import load_kept

    where = pick_device(device, threads)
    training = read_json(run / "training.json")
    cache = FeatureCache(features)
    cache.require_same_source(training["features"], run / "training.json")
    cell = training["cell"]
    settings = resolve_settings(cell["variant_of"], overrides=training["settings"])
    map_size = (cache.meta["input_size"], cache.meta["input_size"])
    model = build_method(cell["variant_of"], [LevelShape(*s) for s in cache.shapes], settings, map_size, 0).to(where)
    truth = GroundTruth([entry for entry in read_manifest(manifest) if entry.split == "test"])

    by_epoch: dict[int, dict[str, float | None]] = {}
    seconds = 0.0
    for epoch, state in load_kept(run / "checkpoints.safetensors").items():
        started = time.monotonic()
        scored = score_images(load_method(model, state), cache.levels, where)
        seconds = time.monotonic() - started
        by_epoch[epoch] = evaluate(scored, truth)
    history = _history(run / "history.csv")

    write_text(run / "scores.csv", _scores_csv(truth, scored))
    _write_examples(run / "examples.npz", truth, scored)
    if save_maps:
        _write_array(run / "maps.npy", scored.maps)
    record = _record(training, cache.meta, manifest, truth, by_epoch, history, seconds, peak_memory_mb(where))
    write_record(run / "run.json", record)


def _record(
    training: dict[str, Any],
    test_features: dict[str, Any],
    manifest: Path,
    truth: "GroundTruth",
    by_epoch: dict[int, dict[str, float | None]],
    history: list[dict[str, Any]],
    score_seconds: float,
    memory: dict[str, float],
) -> RunRecord:
    """Joins what training and evaluation know of a run."""
    from nfbench.provenance import file_sha256, provenance
    from nfbench.scoring.evaluate import select

    n_anomalous = int(truth.labels.sum())
    train_features = training["features"]
    described = {key: test_features[key] for key in ("backbone", "weights", "weights_sha256", "levels", "input_size")}
    return RunRecord(
        cell=training["cell"],
        settings=training["settings"],
        selections=select(by_epoch, {row["epoch"]: row["val_log_likelihood"] for row in history}),
        by_epoch=by_epoch,
        data={
            "manifest": str(manifest),
            "manifest_sha256": file_sha256(manifest),
            "n_train": training["n_train"],
            "n_val": training["n_val"],
            "n_test_normal": len(truth.entries) - n_anomalous,
            "n_test_anomalous": n_anomalous,
            "n_regions": truth.n_regions if truth.has_masks else None,
            "resolution": "original",
        },
        features={**described, "train_key": train_features["key"], "test_key": test_features["key"]},
        parameters=training["parameters"],
        seconds={
            "extract_train": train_features["seconds"],
            "extract_test": test_features["seconds"],
            "train": training["seconds"]["train"],
            "score": round(score_seconds, 3),
        },
        images_per_second={
            "extract": _rate(test_features["n_images"], test_features["seconds"]),
            "train": _rate(training["n_train"] * len(history), training["seconds"]["train"]),
            "score": _rate(len(truth.entries), score_seconds),
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


def _scores_csv(truth: "GroundTruth", scored: "ScoredImages") -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["image", "label", "defect", *scored.images])
    for index, entry in enumerate(truth.entries):
        values = [f"{scores[index]:.9g}" for scores in scored.images.values()]
        writer.writerow([entry.image, entry.label, entry.defect, *values])
    return buffer.getvalue()


def _write_examples(path: Path, truth: "GroundTruth", scored: "ScoredImages") -> None:
    """Maps of one normal image and of one image of each of the first kinds of defect, the middle ones by name."""
    import numpy as np

    kinds = sorted({entry.defect for entry in truth.entries} - {"good"})[:_EXAMPLE_DEFECTS]
    chosen = []
    for kind in ["good", *kinds]:
        of_kind = [index for index, entry in enumerate(truth.entries) if entry.defect == kind]
        chosen.append(of_kind[len(of_kind) // 2])
    with atomic_path(path) as temporary:
        np.savez(temporary, index=np.array(chosen), maps=scored.maps[chosen])


def _write_array(path: Path, array: "np.ndarray") -> None:
    import numpy as np

    with atomic_path(path) as temporary:
        np.save(temporary, array)


def _rate(count: int, seconds: float) -> float:
    return round(count / max(seconds, 1e-9), 2)

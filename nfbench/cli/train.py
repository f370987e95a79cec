"""Training: from cached features to a trained flow, of one category or of several.

Leaves in the run's folder ``model.safetensors`` (last epoch), ``checkpoints.safetensors`` (the kept epochs
before it), ``history.csv`` and ``training.json``, the part of the run record that is known by now.
"""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nfbench.cli.options import Anomalies, Device, Set, Threads, parse_anomalies, parse_overrides
from nfbench.config import AnomaliesConfig
from nfbench.core.errors import NfbenchError
from nfbench.core.files import write_csv, write_json
from nfbench.plan.cells import Cell

if TYPE_CHECKING:
    import torch

    from nfbench.blocks.method import Method
    from nfbench.training.assemble import Images
    from nfbench.training.data import TrainingData

__all__ = ["train_flow"]

_CONTOUR_IMAGES = 32


def train_flow(
    features: Annotated[list[Path], typer.Option(help="meta.json of the training view; once for each class.")],
    run: Annotated[Path, typer.Option(help="Folder of the run.")],
    method: Annotated[str, typer.Option(help="Name of the method.")],
    manifest: Annotated[list[Path], typer.Option(help="Manifest of the category; once for each class.")],
    dataset: Annotated[str, typer.Option(help="Name of the dataset.")],
    category: Annotated[str, typer.Option(help="Category, all in the setting unified.")],
    classes: Annotated[
        list[str] | None, typer.Option("--class", help="Name of a class, as often; by default the category.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Number of the seed.")] = 0,
    variant: Annotated[str | None, typer.Option(help="Name of the variant, by default the method.")] = None,
    title: Annotated[str | None, typer.Option(help="Name in tables.")] = None,
    reader: Annotated[
        str | None, typer.Option(help="Reader of the dataset, for the paper's per-category settings.")
    ] = None,
    backbone_tag: Annotated[str | None, typer.Option(help="Tag of the backbone, by default its name.")] = None,
    setting: Annotated[str, typer.Option(help="one-class, unified or few-anomaly.")] = "one-class",
    overrides: Set = None,
    anomalies: Anomalies = None,
    pseudo_features: Annotated[
        list[Path] | None, typer.Option(help="meta.json of the view of pseudo-anomalies; once for each class.")
    ] = None,
    test_features: Annotated[Path | None, typer.Option(help="meta.json of the test view, for real anomalies.")] = None,
    study: Annotated[Path | None, typer.Option(help="study.json of a search, whose best settings are taken.")] = None,
    epochs_at_most: Annotated[int | None, typer.Option(min=0, help="Train no longer than this, for a trial.")] = None,
    checkpoint_seconds: Annotated[
        float, typer.Option(envvar="NFBENCH_CHECKPOINT_SECONDS", help="At least so long between two checkpoints.")
    ] = 20.0,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Train a method on cached features; goes on where a killed training stopped."""
    from nfbench.blocks.method import count_parameters, resolve_settings
    from nfbench.core.device import peak_memory_mb, pick_device
    from nfbench.core.provenance import provenance
    from nfbench.training.checkpoint import save_kept, save_state
    from nfbench.training.fit import fit

    where = pick_device(device, threads)
    names = classes or [category]
    images = _read_images(names, features, manifest, parse_anomalies(anomalies), pseudo_features, test_features, seed)
    meta = images[0].features.meta
    cell = Cell(setting, dataset, category, variant or method, backbone_tag or meta["backbone"], seed)
    found, searched = _best_of(study, cell) if study else ({}, None)
    settings = resolve_settings(
        method,
        dataset=reader or dataset,
        category=category,
        backbone=meta["backbone"],
        overrides={**parse_overrides(overrides), **found},
        epochs_at_most=epochs_at_most,
    )
    _check_setting(setting, images)
    started = time.monotonic()
    fitted = fit(cell, method, settings, images, where, run, checkpoint_seconds)
    model, data, result = fitted.model, fitted.data, fitted.result
    contour = _contour(model, data, images, where)

    with fitted.side.publish() as folder:
        save_state(folder / "model.safetensors", model.state_dict())
        earlier = {epoch: state for epoch, state in result.kept.items() if epoch < settings.epochs}
        save_kept(folder / "checkpoints.safetensors", earlier)
        fields = ("epoch", "loss", "val_log_likelihood", "lr", "seconds")
        write_csv(folder / "history.csv", fields, ([row[field] for field in fields] for row in result.history))
        write_json(
            folder / "training.json",
            {
                "cell": {
                    **cell.__dict__,
                    "variant_of": method,
                    "method_title": model.title,
                    "title": title or model.title,
                },
                "settings": settings.model_dump(mode="json"),
                "initialization": fitted.initialization,
                "parameters": count_parameters(model),
                "n_train": len(data.train),
                "n_val": len(data.val),
                "n_items": len(data.items),
                "classes": {name: _describe_class(one) for name, one in zip(names, images, strict=True)},
                "anomalies": _describe_anomalies(images),
                "search": searched,
                "features": {key: value for key, value in meta.items() if key != "files"},
                "seconds": {"train": round(result.seconds, 3), "train_stage": round(time.monotonic() - started, 3)},
                "peak_memory_mb": peak_memory_mb(where),
                "contour": contour,
                "provenance": provenance(),
            },
        )


def _read_images(
    names: list[str],
    features: list[Path],
    manifests: list[Path],
    anomalies: AnomaliesConfig | None,
    pseudo: list[Path] | None,
    test: Path | None,
    seed: int,
) -> "list[Images]":
    """What there is of each class.

    Raises:
        NfbenchError: an option is not given once for each class, or two classes have one name.
    """
    from nfbench.datasets.manifest import read_manifest
    from nfbench.features.cache import FeatureCache
    from nfbench.training.assemble import Images

    for option, given in (("features", features), ("manifest", manifests), ("pseudo-features", pseudo or names)):
        if len(given) != len(names):
            raise NfbenchError(f"--{option} is given {len(given)} times for {len(names)} classes: {', '.join(names)}")
    if len(set(names)) < len(names):
        raise NfbenchError(f"two classes have the same name: {', '.join(names)}")
    caches = [FeatureCache(path) for path in features]
    made = [FeatureCache(path) for path in pseudo] if pseudo else [None] * len(names)
    tested = FeatureCache(test) if test else None
    return [
        Images(read_manifest(manifest), cache, anomalies, one_made, tested, seed)
        for manifest, cache, one_made in zip(manifests, caches, made, strict=True)
    ]


def _contour(model: "Method", data: "TrainingData", images: "list[Images]", device: "torch.device") -> float:
    """The contour threshold of some normal images, held-out ones if any."""
    import torch

    from nfbench.scoring.gradients import GradientMaps
    from nfbench.scoring.maps import contour_threshold, score_images

    normals = data.val if len(data.val) else data.train
    normals = normals[torch.linspace(0, len(normals) - 1, min(len(normals), _CONTOUR_IMAGES)).long()]
    trained_on = [entry for one in images for entry in one.entries if entry.split == "train"]
    meta = images[0].features.meta
    localize = GradientMaps(model, trained_on, meta, device) if model.localizes_by_gradient else None
    maps = score_images(model, data.levels, device, normals, localize).maps
    return contour_threshold(maps)


def _describe_class(images: "Images") -> dict[str, Any]:
    """What run.json says of the features that a class was learned from."""
    pseudo = images.pseudo and {key: images.pseudo.meta[key] for key in ("key", "seconds")}
    return {"key": images.features.meta["key"], "pseudo": pseudo}


def _describe_anomalies(images: "list[Images]") -> dict[str, Any] | None:
    """What run.json says of the anomalies that were learned from."""
    anomalies = images[0].anomalies
    if anomalies is None:
        return None
    kept = anomalies.model_dump(include={"generator", "views", "online", "repeats"})
    return {**kept, "real": [entry.image for one in images for entry in one.real]}


def _check_setting(setting: str, images: "list[Images]") -> None:
    n_real = sum(len(one.real) for one in images)
    if (setting == "few-anomaly") != bool(n_real):
        raise NfbenchError(f"setting '{setting}' with {n_real} real anomalies: they are for 'few-anomaly' alone")
    if setting != "unified" and len(images) > 1:
        raise NfbenchError(f"setting '{setting}' with {len(images)} classes: one model of several is 'unified'")


def _best_of(path: Path, cell: Cell) -> tuple[dict[str, Any], dict[str, Any]]:
    """The best settings that a search found on a cell's backbone, and what run.json says of the search.

    Raises:
        NfbenchError: it is a search for another cell, or has no complete trial on the backbone.
    """
    from nfbench.search.record import read_study

    record = read_study(path)
    searched = {**record.study.cell, "method": record.study.name}
    asked = {"setting": cell.setting, "dataset": cell.dataset, "category": cell.category, "method": cell.method}
    if searched != asked:
        raise NfbenchError(f"{path} is the study of {'/'.join(searched.values())}, not of {'/'.join(asked.values())}")
    best = record.by_backbone.get(cell.backbone)
    if best is None:
        raise NfbenchError(f"{path}: no trial on '{cell.backbone}' completed; give the search more trials")
    return best.settings, {
        "objective": record.study.objective,
        "metric": record.study.metric,
        "trial": best.number,
        "value": best.value,
        "chosen": record.best.backbone == cell.backbone,
        "settings": best.settings,
        "trials": {state: record.count(state) for state in ("complete", "pruned", "failed")},
        "seconds": record.seconds,
        "validation": record.validation,
    }

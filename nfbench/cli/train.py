"""Training: from cached features to a trained flow.

Leaves in the run's folder ``model.safetensors`` (last epoch), ``checkpoints.safetensors`` (the kept epochs),
``history.csv`` and ``training.json``, the part of the run record that is known by now.
"""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nfbench.cli.options import Anomalies, Device, Set, Threads, parse_anomalies, parse_overrides
from nfbench.files import write_csv, write_json
from nfbench.grid import Cell

if TYPE_CHECKING:
    from nfbench.training.assemble import Images

__all__ = ["train_flow"]

_CONTOUR_QUANTILE = 0.999
_CONTOUR_IMAGES = 32


def train_flow(
    features: Annotated[Path, typer.Option(help="meta.json of the training view.")],
    run: Annotated[Path, typer.Option(help="Folder of the run.")],
    method: Annotated[str, typer.Option(help="Name of the method.")],
    manifest: Annotated[Path, typer.Option(help="Manifest of the category.")],
    dataset: Annotated[str, typer.Option(help="Name of the dataset.")],
    category: Annotated[str, typer.Option(help="Category.")],
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
    pseudo_features: Annotated[Path | None, typer.Option(help="meta.json of the view of pseudo-anomalies.")] = None,
    test_features: Annotated[Path | None, typer.Option(help="meta.json of the test view, for real anomalies.")] = None,
    checkpoint_seconds: Annotated[float, typer.Option(help="At least so long between two checkpoints.")] = 20.0,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Train a method on cached features; goes on where a killed training stopped."""
    import torch

    from nfbench.datasets.manifest import read_manifest
    from nfbench.device import peak_memory_mb, pick_device
    from nfbench.features.cache import FeatureCache
    from nfbench.methods.base import LevelShape, build_method, count_parameters, resolve_settings
    from nfbench.provenance import derive_seed, provenance
    from nfbench.scoring.gradients import GradientMaps
    from nfbench.scoring.maps import score_images
    from nfbench.training.assemble import Images, assemble
    from nfbench.training.checkpoint import SideFolder, save_kept, save_state
    from nfbench.training.loop import train

    where = pick_device(device, threads)
    cache = FeatureCache(features)
    meta = cache.meta
    cell = Cell(setting, dataset, category, variant or method, backbone_tag or meta["backbone"], seed)
    settings = resolve_settings(
        method,
        dataset=reader or dataset,
        category=category,
        backbone=meta["backbone"],
        overrides=parse_overrides(overrides),
    )
    cell_seed = derive_seed(seed, *cell.__dict__.values())
    shapes = [LevelShape(*shape) for shape in cache.shapes]
    map_size = (meta["input_size"], meta["input_size"])
    initialization = derive_seed(cell_seed, "initialization")
    model = build_method(method, shapes, settings, map_size, initialization).to(where)
    pseudo, test = (FeatureCache(path) if path else None for path in (pseudo_features, test_features))
    images = Images(read_manifest(manifest), cache, parse_anomalies(anomalies), pseudo, test, seed)
    data = assemble(model, images, cell_seed, where)
    keys = [used.meta["key"] for used in (cache, pseudo, test) if used]
    side = SideFolder(run, _fingerprint(cell, settings.model_dump(mode="json"), anomalies, keys))
    started = time.monotonic()
    result = train(model, data, settings, side, label=str(cell), checkpoint_seconds=checkpoint_seconds)
    model.eval()
    normals = (data.val if len(data.val) else data.train)[:_CONTOUR_IMAGES]
    trained_on = [entry for entry in images.entries if entry.split == "train"]
    localize = GradientMaps(model, trained_on, meta, where) if model.localizes_by_gradient else None
    maps = score_images(model, cache.levels, where, normals, localize).maps
    contour = torch.from_numpy(maps).quantile(_CONTOUR_QUANTILE)

    save_state(run / "model.safetensors", model.state_dict())
    save_kept(run / "checkpoints.safetensors", result.kept)
    fields = ("epoch", "loss", "val_log_likelihood", "lr", "seconds")
    write_csv(run / "history.csv", fields, ([row[field] for field in fields] for row in result.history))
    write_json(
        run / "training.json",
        {
            "cell": {
                **cell.__dict__,
                "variant_of": method,
                "method_title": model.title,
                "title": title or model.title,
            },
            "settings": settings.model_dump(mode="json"),
            "initialization": initialization,
            "parameters": count_parameters(model),
            "n_train": len(data.train),
            "n_val": len(data.val),
            "anomalies": _describe_anomalies(images),
            "features": {key: value for key, value in meta.items() if key != "files"},
            "seconds": {"train": round(result.seconds, 3), "train_stage": round(time.monotonic() - started, 3)},
            "peak_memory_mb": peak_memory_mb(where),
            "contour": float(contour),
            "provenance": provenance(),
        },
    )
    side.remove()


def _describe_anomalies(images: "Images") -> dict[str, Any] | None:
    """What run.json says of the anomalies that were learned from."""
    if images.anomalies is None:
        return None
    kept = images.anomalies.model_dump(include={"generator", "views", "online"})
    return {**kept, "real": [entry.image for entry in images.real]}


def _fingerprint(cell: Cell, settings: dict[str, Any], anomalies: str | None, features_keys: list[str]) -> str:
    """Of all that determines a training: a checkpoint of another fingerprint is not resumed."""
    import hashlib
    import json

    from nfbench.provenance import fingerprint

    code = fingerprint("anomalies", "flows", "methods", "training", "features/online.py")
    text = json.dumps([str(cell), settings, anomalies, features_keys, code], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]

"""Searches of hyper-parameters: a study is described, searched by several workers, and summed up.

The journal of a study lies in a folder that the workflow does not know, so that a killed or failed worker does not lose
it. ``study.json`` is the study's record; ``best.yaml`` says the best settings, and ``trials.csv`` all that were tried.
"""

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml

from nfbench.cli.options import Device, Threads
from nfbench.config import VariantConfig, validate
from nfbench.core.errors import NfbenchError
from nfbench.core.files import read_json, write_csv, write_json, write_text
from nfbench.plan.cells import Cell

if TYPE_CHECKING:
    from nfbench.config import Dimension
    from nfbench.features.cache import FeatureCache
    from nfbench.search.study import SharedStudy

__all__ = ["create_study", "search_hyperparameters", "summarize_study"]

Folder = Annotated[Path, typer.Option("--study", help="Folder of the study.")]


def create_study(
    study: Folder,
    variant: Annotated[str, typer.Option(help="What a variant says, with its 'search', as JSON.")],
    name: Annotated[str, typer.Option(help="Name of the variant.")],
    dataset: Annotated[str, typer.Option(help="Name of the dataset.")],
    category: Annotated[str, typer.Option(help="Category.")],
    reader: Annotated[str, typer.Option(help="Reader of the dataset, for the paper's per-category settings.")],
    manifest: Annotated[Path, typer.Option(help="Manifest of the category.")],
    features: Annotated[list[Path], typer.Option(help="meta.json of the training view; once for each backbone.")],
    test_features: Annotated[
        list[Path] | None, typer.Option(help="meta.json of the test view, as often, for the objectives that need it.")
    ] = None,
    pseudo_features: Annotated[
        list[Path] | None, typer.Option(help="meta.json of the view of pseudo-anomalies, as often.")
    ] = None,
    epochs_at_most: Annotated[int | None, typer.Option(min=0, help="Train no longer than this, for a trial.")] = None,
) -> None:
    """Describe a study, and have the method's own settings tried first, on each backbone."""
    from nfbench.blocks.method import resolve_settings
    from nfbench.core.provenance import provenance
    from nfbench.search.space import default_point

    config = _variant(variant)
    space = _space(name, config)
    caches = _caches(config, features, "features")
    description = {
        "name": name,
        "setting": "one-class",
        "dataset": dataset,
        "category": category,
        "reader": reader,
        "variant": config.model_dump(mode="json"),
        "epochs_at_most": epochs_at_most,
        "manifest": str(manifest),
        "features": [str(path) for path in features],
        "test_features": [str(path) for path in test_features or ()],
        "pseudo_features": [str(path) for path in pseudo_features or ()],
        "validation": _validation(config, manifest),
    }
    description["fingerprint"] = _fingerprint(description, space)
    shared = _open(study, description)
    for tag, cache in caches.items():
        own = resolve_settings(
            config.method,
            dataset=reader,
            category=category,
            backbone=cache.meta["backbone"],
            overrides=config.settings,
        )
        shared.suggest_first(default_point(space, own, tag))
    write_json(study / "description.json", {**description, "provenance": provenance()})


def search_hyperparameters(
    study: Folder,
    worker: Annotated[int, typer.Option(min=0, help="Number of the worker.")] = 0,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Claim trials of a study, train and judge them, until all are claimed."""
    from nfbench.core.device import pick_device
    from nfbench.core.progress import progress
    from nfbench.core.provenance import provenance
    from nfbench.search.space import distributions

    description = read_json(study / "description.json")
    config = validate(VariantConfig, description["variant"], str(study / "description.json"))
    shared = _open(study, description)
    space = distributions(_space(description["name"], config))
    folder = study / ".study" / f"worker{worker}"
    objective = _objective(description, config, pick_device(device, threads), folder)
    budget = config.search.trials
    with shared.worker(worker):
        done = len(shared.trials())
        claims = iter(lambda: shared.claim(worker, space, budget, config.search.seconds), None)
        for trial in progress(claims, total=budget, label=f"search {description['name']}", done=done):
            objective.run(trial, shared)
    shutil.rmtree(folder, ignore_errors=True)
    mine = [trial.number for trial in shared.trials() if trial.user_attrs["worker"] == worker]
    write_json(study / f"worker{worker}.json", {"trials": mine, "provenance": provenance()})


def summarize_study(study: Folder) -> None:
    """Write the record of a study, and its best settings."""
    from nfbench.search.record import write_study
    from nfbench.search.summary import summarize

    description = read_json(study / "description.json")
    config = validate(VariantConfig, description["variant"], str(study / "description.json"))
    cell = {key: description[key] for key in ("setting", "dataset", "category")}
    space = _space(description["name"], config)
    record = summarize(_open(study, description), cell, description["name"], config, space, description["validation"])
    write_study(study / "study.json", record)
    best = {tag: {"value": trial.value, "settings": trial.settings} for tag, trial in record.by_backbone.items()}
    text = yaml.safe_dump({"backbone": record.best.backbone, "by_backbone": best}, sort_keys=False)
    write_text(study / "best.yaml", f"# Best settings by {record.study.metric}, of {len(record.trials)} trials\n{text}")
    columns = ("number", "state", "value", "seconds", "worker", *space)
    write_csv(
        study / "trials.csv",
        columns,
        ([*(getattr(t, key) for key in columns[:5]), *(t.params[key] for key in space)] for t in record.trials),
    )


def _variant(text: str) -> VariantConfig:
    try:
        config = validate(VariantConfig, json.loads(text), "--variant")
    except json.JSONDecodeError as error:
        raise NfbenchError(f"--variant {text}: not valid JSON: {error}") from None
    if config.search is None:
        raise NfbenchError("--variant has no 'search'")
    return config


def _space(name: str, config: VariantConfig) -> "dict[str, Dimension]":
    from nfbench.search.space import search_space

    try:
        return search_space(config)
    except NfbenchError as error:
        raise NfbenchError(f"variant '{name}': {error}") from error


def _caches(config: VariantConfig, paths: Sequence[str | Path], option: str) -> "dict[str, FeatureCache]":
    """Features by the backbone's tag."""
    from nfbench.features.cache import FeatureCache

    tags = [backbone.tag for backbone in config.search.backbones]
    if len(paths) != len(tags):
        raise NfbenchError(f"--{option} is given {len(paths)} times for the backbones {', '.join(tags)}")
    return {tag: FeatureCache(path) for tag, path in zip(tags, paths, strict=True)}


def _validation(config: VariantConfig, manifest: Path) -> list[str]:
    """Test images that are to be left out of the test set.

    Raises:
        NfbenchError: trials cannot be judged by the images that there are.
    """
    from nfbench.datasets.manifest import read_manifest
    from nfbench.search.split import judging_images

    chosen = judging_images(read_manifest(manifest), config.search)
    return [entry.image for entry in chosen] if config.search.objective == "validation" else []


def _fingerprint(description: dict[str, Any], space: "dict[str, Dimension]") -> str:
    """Of all that the value of a point depends on; trials of another fingerprint are of another study."""
    from nfbench.core.provenance import file_sha256, fingerprint, training_code

    paths = (*description["features"], *description["test_features"], *description["pseudo_features"])
    variant = {**description["variant"], "title": None}
    variant["search"] = {key: variant["search"][key] for key in ("objective", "metric", "pruning", "seed")}
    code = training_code(anomalies=bool(variant["anomalies"])) + fingerprint("scoring", "metrics", "search")
    identity = {
        **description,
        "variant": variant,
        "space": {name: dimension.model_dump(mode="json") for name, dimension in space.items()},
        "features": [read_json(path)["key"] for path in paths],
        "manifest": file_sha256(description["manifest"]),
        "code": code,
    }
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


def _open(study: Path, description: dict[str, Any]) -> "SharedStudy":
    from nfbench.search.study import SharedStudy

    search = description["variant"]["search"]
    journal = study / ".study" / description["fingerprint"] / "journal.log"
    return SharedStudy(journal, search["seed"], search["pruning"])


def _objective(description: dict[str, Any], config: VariantConfig, device: Any, folder: Path) -> Any:
    from nfbench.datasets.manifest import read_manifest
    from nfbench.search.objective import Judged, Objective
    from nfbench.search.split import judging_images
    from nfbench.training.assemble import Images

    entries = read_manifest(description["manifest"])
    pseudo = description["pseudo_features"] and _caches(config, description["pseudo_features"], "pseudo-features")
    images = {
        tag: Images(entries, cache, config.anomalies, pseudo[tag] if pseudo else None)
        for tag, cache in _caches(config, description["features"], "features").items()
    }
    judged = {}
    if chosen := judging_images(entries, config.search):
        tested = _caches(config, description["test_features"], "test-features")
        judged = {tag: Judged.of(cache, entries, chosen) for tag, cache in tested.items()}
    cell = Cell(description["setting"], description["dataset"], description["category"], description["name"], "", 0)
    return Objective(cell, config, description["reader"], description["epochs_at_most"], images, judged, device, folder)

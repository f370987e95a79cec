"""Hyper-parameter searches in three stages: describe a study, run its trials with workers, summarize it.

The journal of a study is not an output of the workflow, so it survives a killed or failed worker. ``study.json`` is the
record of the study, ``best.yaml`` has the best settings, and ``trials.csv`` all trials.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import yaml

from nfbench.blocks.method import resolve_settings
from nfbench.config import Dimension
from nfbench.core.device import pick_device
from nfbench.core.errors import NfbenchError
from nfbench.core.files import remove_stale, write_csv, write_json, write_text
from nfbench.core.progress import progress
from nfbench.core.provenance import file_sha256, provenance
from nfbench.core.seals import read_sealed, write_sealed
from nfbench.datasets._manifest import Entry, read_manifest, view_entries
from nfbench.features.cache import FeatureCache
from nfbench.plan.cells import Cell
from nfbench.plan.origin import require_origin
from nfbench.plan.specs import SearchSpec, StudySpec, SummarizeSpec
from nfbench.search.objective import Judged, Objective
from nfbench.search.record import StudyStart, write_study
from nfbench.search.space import default_point, distributions, search_space
from nfbench.search.split import judging_images
from nfbench.search.study import SharedStudy
from nfbench.search.summary import summarize
from nfbench.training.assemble import Images

__all__ = ["create_study", "search_hyperparameters", "summarize_study"]


def create_study(spec: StudySpec) -> None:
    """Describes a study, and enqueues the method's default settings on each backbone as first trials.

    Raises:
        NfbenchError: there is nothing to search, or the available images cannot judge trials.
    """
    require_origin(spec)
    remove_stale(spec.study)
    space, search = _space(spec), spec.variant.searched
    chosen = judging_images(read_manifest(spec.manifest), search)
    start = StudyStart(
        spec=spec,
        validation=[entry.image for entry in chosen] if search.objective == "validation" else [],
        fingerprint=_fingerprint(spec, space),
        provenance=provenance(),
    )
    _open(spec, start)
    write_sealed(Path(spec.study) / "description.json", start)


def search_hyperparameters(spec: SearchSpec, device: str = "auto", threads: int | None = None) -> None:
    """Claims, trains and judges trials of a study until all are claimed."""
    study, worker = spec.study, spec.worker
    require_origin(study)
    shared = _open(study, _start_of(study))
    space = distributions(_space(study))
    folder = Path(study.study) / ".study" / f"worker{worker}"
    where = pick_device(device, threads)
    objective = _objective(study, where, folder)
    search = study.variant.searched
    with shared.worker(worker):
        done = len(shared.trials())
        claims = iter(lambda: shared.claim(worker, space, search.trials, search.seconds), None)
        for trial in progress(claims, total=search.trials, label=f"search {study.name}", done=done):
            objective.run(trial, shared)
    shutil.rmtree(folder, ignore_errors=True)
    mine = [trial.number for trial in shared.trials() if trial.user_attrs["worker"] == worker]
    write_json(Path(study.study) / f"worker{worker}.json", {"trials": mine, "provenance": provenance(where)})


def summarize_study(spec: SummarizeSpec) -> None:
    """Writes the record of a study and its best settings."""
    study, space = spec.study, _space(spec.study)
    start, folder = _start_of(study), Path(study.study)
    shared = _open(study, start)
    if not shared.trials():  # the journal was lost; Snakemake reruns workers whose files are missing
        for number in range(study.variant.searched.workers):
            (folder / f"worker{number}.json").unlink(missing_ok=True)
    record = summarize(shared, study, space, start.validation)
    write_study(folder / "study.json", record)
    best = {tag: {"value": trial.value, "settings": trial.settings} for tag, trial in record.by_backbone.items()}
    text = yaml.safe_dump({"backbone": record.best and record.best.backbone, "by_backbone": best}, sort_keys=False)
    write_text(
        folder / "best.yaml", f"# Best settings by {record.study.metric}, of {len(record.trials)} trials\n{text}"
    )
    columns = ("number", "state", "value", "seconds", "worker", *space)
    write_csv(
        folder / "trials.csv",
        columns,
        ([*(getattr(t, key) for key in columns[:5]), *(t.params[key] for key in space)] for t in record.trials),
    )


def _start_of(spec: StudySpec) -> StudyStart:
    """Reads the description that ``create_study`` wrote.

    Raises:
        NfbenchError: it is unusable or describes another study.
    """
    path = Path(spec.study) / "description.json"
    start = read_sealed(StudyStart, path)
    if start.spec != spec:
        raise NfbenchError(f"{path} describes a search with other settings, images or code; run 'snakemake' again")
    return start


def _space(spec: StudySpec) -> dict[str, Dimension]:
    if spec.variant.search is None:
        raise NfbenchError(f"variant '{spec.name}' has no 'search'")
    try:
        return search_space(spec.variant)
    except NfbenchError as error:
        raise NfbenchError(f"variant '{spec.name}': {error}") from error


def _fingerprint(spec: StudySpec, space: Mapping[str, Dimension]) -> str:
    """Returns the hash of everything that the value of a trial depends on; it identifies the study."""
    search = spec.variant.searched.model_dump(mode="json", include={"objective", "metric", "pruning", "seed"})
    variant = spec.variant.model_dump(mode="json", include={"method", "settings", "anomalies"})
    place = spec.model_dump(include={"name", "setting", "dataset", "category", "reader", "epochs_at_most"})
    caches = [path for one in spec.backbones for path in (one.features, one.test_features, one.pseudo) if path]
    identity = {
        **place,
        "variant": variant,
        "search": search,
        "space": {name: dimension.model_dump(mode="json") for name, dimension in space.items()},
        "features": [FeatureCache(path).meta.key for path in caches],
        "manifest": file_sha256(spec.manifest),
        "code": spec.code,
    }
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


def _open(spec: StudySpec, start: StudyStart) -> SharedStudy:
    """Opens the study; if no trial has started, enqueues the method's default settings on each backbone."""
    journal = Path(spec.study) / ".study" / start.fingerprint / "journal.log"
    search, space = spec.variant.searched, _space(spec)
    shared = SharedStudy(journal, search.seed, search.pruning, search.direction)
    for backbone in search.backbones:
        own = resolve_settings(
            spec.variant.method,
            dataset=spec.reader,
            category=spec.category,
            backbone=backbone.name,
            overrides=spec.variant.settings,
        )
        shared.suggest_first(default_point(space, own, backbone.tag))
    return shared


def _objective(spec: StudySpec, device: torch.device, folder: Path) -> Objective:
    entries, search = read_manifest(spec.manifest), spec.variant.searched
    chosen = judging_images(entries, search)
    images, judged = {}, {}
    for one in spec.backbones:
        pseudo = FeatureCache(one.pseudo) if one.pseudo else None
        images[one.tag] = Images(entries, _cache(one.features, entries, spec), spec.variant.anomalies, pseudo)
        if chosen and one.test_features:
            tested = _cache(one.test_features, entries, spec)
            judged[one.tag] = Judged.of(tested, images[one.tag].features, entries, chosen)
    cell = Cell(spec.setting, spec.dataset, spec.category, spec.name, "", 0)
    code = spec.code
    return Objective(cell, spec.variant, spec.reader, spec.epochs_at_most, images, judged, device, folder, code)


def _cache(path: str, entries: Sequence[Entry], spec: StudySpec) -> FeatureCache:
    """Opens the features of a view and checks them against the study's manifest, image by image."""
    cache = FeatureCache(path)
    cache.require_images(view_entries(entries, cache.meta.view), spec.manifest)
    return cache

"""From cached features to a trained model of one or several categories.

Writes into the run's folder: ``model.safetensors`` (last epoch), ``checkpoints.safetensors`` (earlier kept epochs),
``held_out.safetensors`` (scores of cross-fitted images), ``history.csv`` and ``training.json``.
"""

import time
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from nfbench.blocks.method import count_parameters, resolve_settings
from nfbench.core.device import peak_memory_mb, pick_device
from nfbench.core.errors import NfbenchError
from nfbench.core.files import remove_stale
from nfbench.core.provenance import provenance
from nfbench.core.seals import known_files, write_sealed
from nfbench.datasets._drawn import draw
from nfbench.datasets._manifest import read_manifest, view_entries
from nfbench.features.cache import FeatureCache
from nfbench.plan.cells import Cell
from nfbench.plan.origin import require_origin
from nfbench.plan.paths import TRAINED
from nfbench.plan.specs import ExtractSpec, StudySpec, TrainSpec
from nfbench.results.files import Epoch, write_rows
from nfbench.search.record import read_study
from nfbench.training.assemble import Images
from nfbench.training.checkpoint import save_kept, save_state
from nfbench.training.crossfit import cross_fit, save_normal
from nfbench.training.data import TrainingData
from nfbench.training.fit import fit
from nfbench.training.record import AnomaliesRecord, ClassRecord, DrawnRecord, SearchRecord, TrainingRecord
from nfbench.training.shots import for_condition

__all__ = ["CHECKPOINT_SECONDS", "train_flow"]

CHECKPOINT_SECONDS = 20.0


def train_flow(
    spec: TrainSpec, device: str = "auto", threads: int | None = None, checkpoint_seconds: float = CHECKPOINT_SECONDS
) -> None:
    """Trains a method on cached features; resumes a killed training.

    Args:
        spec: method, settings and training images.
        device: ``auto``, ``cpu`` or ``cuda``.
        threads: number of CPU threads; default: all.
        checkpoint_seconds: minimum number of seconds between checkpoints; see ``CheckpointPace``.
    """
    require_origin(spec)
    where = pick_device(device, threads)
    images = _read_images(spec)
    _check_setting(spec, images)
    meta = images[0].features.meta
    found, search, study = _best_of(spec.study, spec.cell) if spec.study else ({}, None, None)
    settings = resolve_settings(
        spec.method,
        dataset=spec.reader,
        category=spec.cell.category,
        backbone=meta.backbone.name,
        overrides={**spec.settings, **found},
        epochs_at_most=spec.epochs_at_most,
    )
    settings = for_condition(settings, spec.cell.condition)
    started = time.monotonic()
    remove_stale(spec.run)
    names = [one.name for one in spec.classes]
    normal = dict(zip(names, cross_fit(spec.cell, spec.method, settings, images, where), strict=False))
    cross_fitted = time.monotonic()
    fitted = fit(spec.cell, spec.method, settings, images, where, Path(spec.run), spec.to_json(), checkpoint_seconds)
    model, data, result = fitted.model, fitted.data, fitted.result
    with fitted.side.publish() as folder:
        save_state(folder / "model.safetensors", model.state_dict())
        last = max(result.kept)
        earlier = {epoch: state for epoch, state in result.kept.items() if epoch < last}
        save_kept(folder / "checkpoints.safetensors", earlier)
        save_normal(folder / "held_out.safetensors", normal)
        write_rows(Epoch, folder, ([row[field] for field in Epoch._fields] for row in result.history))
        record = TrainingRecord(
            spec=spec,
            extracted=_extracted(images),
            study=study,
            method_title=model.title,
            settings=settings.model_dump(mode="json"),
            initialization=fitted.initialization,
            parameters=count_parameters(model),
            epochs=last,
            n_train=len(data.train),
            n_val=len(data.val),
            n_items=len(data.items),
            classes=_describe_classes(spec, images, data),
            anomalies=_describe_anomalies(images),
            search=search,
            features=meta.model_copy(update={"files": [], "spec": None}),
            seconds={
                "train": round(result.seconds, 3),
                **({"cross_fit": round(cross_fitted - started, 3)} if normal else {}),
                "train_stage": round(time.monotonic() - started, 3),
            },
            peak_memory_mb=peak_memory_mb(where),
            provenance=provenance(where),
            fingerprint=fitted.side.fingerprint,
            written=known_files(folder, TRAINED[:-1]),
        )
        write_sealed(folder / TRAINED[-1], record)


def _read_images(spec: TrainSpec) -> list[Images]:
    """Opens the images of each class.

    Raises:
        NfbenchError: two classes have the same name.
    """
    names = [one.name for one in spec.classes]
    if len(set(names)) < len(names):
        raise NfbenchError(f"two classes have the same name: {', '.join(names)}")
    tested, found = FeatureCache(spec.test_features) if spec.test_features else None, []
    for one in spec.classes:
        entries, features = read_manifest(one.manifest), FeatureCache(one.features)
        features.require_images(view_entries(entries, "train"), one.manifest)
        pseudo = FeatureCache(one.pseudo) if one.pseudo else None
        drawn = draw(entries, spec.cell.condition, spec.cell.seed) if spec.cell.condition else None
        found.append(Images(entries, features, spec.anomalies, pseudo, tested, spec.cell.seed, drawn))
    return found


def _check_setting(spec: TrainSpec, images: Sequence[Images]) -> None:
    setting, n_real = spec.cell.setting, sum(len(one.real) for one in images)
    if (setting == "few-anomaly") != bool(n_real):
        raise NfbenchError(
            f"setting '{setting}' with {n_real} real anomalies: 'few-anomaly' needs some, all other settings have none"
        )
    if setting != "unified" and len(images) > 1:
        raise NfbenchError(f"setting '{setting}' with {len(images)} classes: only 'unified' can have several")


def _extracted(images: Sequence[Images]) -> list[ExtractSpec]:
    """Returns the distinct specs of all features that were read; none for caches that no stage wrote."""
    caches = [cache for one in images for cache in (one.features, one.pseudo, one.test) if cache]
    specs = [cache.meta.spec for cache in caches if cache.meta.spec]
    return list({spec.features: spec for spec in specs}.values())


def _describe_classes(spec: TrainSpec, images: Sequence[Images], data: TrainingData) -> dict[str, ClassRecord]:
    firsts = [0, *accumulate(one.n_train for one in images)]
    held_out = data.val.tolist()
    return {
        one.name: ClassRecord(
            key=image.features.meta.key,
            held_out=[row - first for row in held_out if first <= row < first + image.n_train],
            n_validation=image.n_validation,
            pseudo_key=image.pseudo and image.pseudo.meta.key,
            pseudo_seconds=image.pseudo and image.pseudo.meta.seconds,
            drawn=_describe_drawn(image),
        )
        for one, image, first in zip(spec.classes, images, firsts, strict=False)
    }


def _describe_drawn(images: Images) -> DrawnRecord | None:
    if images.drawn is None:
        return None
    count, paths = len(images.drawn.normal), [entry.image for entry in images.normal_entries]
    everything = count == len(images.features) - images.n_validation
    return DrawnRecord(normal=count, images=[] if everything else paths[:count], added=paths[count:])


def _describe_anomalies(images: Sequence[Images]) -> AnomaliesRecord | None:
    anomalies = images[0].anomalies
    if anomalies is None:
        return None
    kept = anomalies.model_dump(include={"generator", "views", "online", "repeats"})
    return AnomaliesRecord(**kept, real=[entry.image for one in images for entry in one.real])


def _best_of(study: str, cell: Cell) -> tuple[dict[str, Any], SearchRecord, StudySpec]:
    """Returns the best settings of a search on a cell's backbone, and a summary of the search for the record.

    Raises:
        NfbenchError: the search is for another cell, or has no complete trial on the backbone.
    """
    record = read_study(study)
    searched = record.spec
    found = (searched.setting, searched.dataset, searched.category, searched.name)
    asked = (cell.setting, cell.dataset, cell.category, cell.method)
    if found != asked:
        raise NfbenchError(f"{study} is the study of {'/'.join(found)}, not of {'/'.join(asked)}")
    best = record.by_backbone.get(cell.backbone)
    if best is None:
        raise NfbenchError(f"{study}: no trial on '{cell.backbone}' completed; give the search more trials")
    described = SearchRecord(
        objective=record.study.objective,
        metric=record.study.metric,
        trial=best.number,
        value=best.value,
        chosen=record.best is not None and record.best.backbone == cell.backbone,
        settings=best.settings,
        trials={state: record.count(state) for state in ("complete", "pruned", "failed")},
        seconds=record.seconds,
        validation=record.validation,
    )
    return best.settings, described, searched

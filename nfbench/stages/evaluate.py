"""From a trained model and cached features to ``run.json`` and what goes with it."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nfbench.anomalies._base import make_generator
from nfbench.blocks.method import Method, build_method, load_method, resolve_settings
from nfbench.config import AnomaliesConfig, Kept
from nfbench.core.device import peak_memory_mb, pick_device
from nfbench.core.errors import NfbenchError, required
from nfbench.core.files import atomic_path, remove_stale
from nfbench.core.progress import progress
from nfbench.core.seals import known_files, read_sealed, verified
from nfbench.datasets._manifest import Entry, read_manifest
from nfbench.features.batches import CachedFeatures
from nfbench.features.cache import FeatureCache
from nfbench.features.online import OnlineFeatures, pseudo_anomalies
from nfbench.plan.origin import require_origin
from nfbench.plan.paths import EVALUATED, TRAINED
from nfbench.plan.specs import EvaluateSpec
from nfbench.results.artifacts import write_artifacts
from nfbench.results.compose import Evaluated, compose_record
from nfbench.results.files import Epoch, read_rows
from nfbench.results.record import write_record
from nfbench.scoring.evaluate import GroundTruth
from nfbench.scoring.gradients import GradientMaps
from nfbench.scoring.likelihoods import Positions, likelihood_histograms, positions_of_test
from nfbench.scoring.predictions import predicted_variances
from nfbench.scoring.protocol import Views, score_and_evaluate
from nfbench.scoring.representations import describe_representations
from nfbench.training.assemble import of_class
from nfbench.training.checkpoint import load_kept, load_state
from nfbench.training.crossfit import load_tails
from nfbench.training.record import TrainingRecord

__all__ = ["evaluate_run"]

_PSEUDO_IMAGES = 40
_DELETED: dict[Kept, Sequence[str]] = {"all": (), "last": TRAINED[1:2], "none": TRAINED[:2]}


def evaluate_run(
    spec: EvaluateSpec, device: str = "auto", threads: int | None = None, keep_models: Kept = "all"
) -> None:
    """Scores the test images with every kept model, writes the run record, and deletes models that are not to stay."""
    require_origin(spec)
    where = pick_device(device, threads)
    trained, run = Path(spec.trained), Path(spec.run)
    source = trained / "training.json"
    training = _training_of(spec, source)
    train_cache, cache = FeatureCache(spec.train_features), FeatureCache(spec.features)
    pseudo = FeatureCache(spec.pseudo) if spec.pseudo else None
    for used in filter(None, (train_cache, cache, pseudo)):
        used.require_same_source(training.features, source)
    number = _class_number(training, spec.cell.category, train_cache, source)
    model = _build(training, cache).to(where).eval()
    entries = read_manifest(spec.manifest)
    for used in (train_cache, cache):
        used.require_images([entry for entry in entries if entry.split == used.meta.view], spec.manifest)
    images = [entry for entry in entries if entry.split == "test"]
    tested = _tested(training, images, spec.manifest, source)
    truth = GroundTruth(list(tested.values()))
    normal, features = train_cache.features, cache.features
    if model.takes_class:
        normal, features = of_class(normal, number), of_class(features, number)
    learned = _learned_positions(training, images, features, model.map_size[0])
    if len(tested) < len(cache):
        features = features[list(tested)]
    views = Views(normal, features)
    if model.gradient_maps:
        splits = [[entry for entry in entries if entry.split == "train"], truth.entries]
        views = Views(normal, features, *(GradientMaps(model, part, cache.meta.recipe, where) for part in splits))

    shown = [positions_of_test(features, truth, model.map_size[0]), *learned] if truth.has_masks else []
    drawn = [*shown, *_pseudo_positions(training, pseudo, entries, where)] if shown else []
    likelihoods = {"before": list(likelihood_histograms(model, drawn, where))}
    by_epoch: dict[int, dict[str, float | None]] = {}
    held_out = training.classes[spec.cell.category].held_out
    tail = load_tails(verified(trained / "held_out.safetensors", source)).get(spec.cell.category)
    kept = _models(training, source)
    history = read_rows(Epoch, trained)
    for epoch, state in progress(kept.items(), total=len(kept), label=f"evaluate {spec.cell}"):
        scored = score_and_evaluate(load_method(model, state), views, truth, where, held_out, spec.metrics, tail, run)
        by_epoch[epoch] = scored.evaluation.metrics

    likelihoods["after"] = list(likelihood_histograms(model, drawn, where))
    if _training_of(spec, source) != training:
        raise NfbenchError(f"{source} has changed while its model was evaluated; run 'snakemake' again")
    if spec.save_maps and scored.test.maps is None:
        raise NfbenchError(
            f"'save_maps' is on for {spec.cell}, and method '{model.title}' makes no maps; set it to false"
        )
    remove_stale(run)
    write_artifacts(
        run,
        scored,
        likelihoods,
        describe_representations(model, normal, shown, where),
        images,
        partial(predicted_variances, model, features, where),
    )
    if spec.save_maps:
        with atomic_path(run / "maps.npy") as temporary:
            np.save(temporary, required(scored.test.maps, "the maps"))
    written = known_files(run, [*EVALUATED[1:], *(["maps.npy"] if spec.save_maps else [])])
    found = Evaluated(spec, training, history, train_cache.meta, cache.meta, by_epoch, scored, where)
    write_record(run / "run.json", compose_record(found, peak_memory_mb(where), written))
    for name in _DELETED[keep_models]:
        (trained / name).unlink(missing_ok=True)


def _training_of(spec: EvaluateSpec, source: Path) -> TrainingRecord:
    """The record of the training that is evaluated.

    Raises:
        NfbenchError: it cannot be used, or is that of another cell.
    """
    training = read_sealed(TrainingRecord, source)
    if training.spec.cell != spec.cell.trained:
        raise NfbenchError(f"{source} is the training of {training.spec.cell}, not of {spec.cell.trained}; train again")
    return training


def _models(training: TrainingRecord, source: Path) -> dict[int, dict[str, Tensor]]:
    """States of the kept models by epoch, that of the last epoch at the end."""
    last = load_state(verified(source.with_name("model.safetensors"), source))
    return {**load_kept(verified(source.with_name("checkpoints.safetensors"), source)), training.epochs: last}


def _build(training: TrainingRecord, cache: FeatureCache) -> Method:
    """The method as it was before training."""
    name = training.spec.method
    settings = resolve_settings(name, overrides=training.settings)
    size, n_classes = cache.meta.map_size, len(training.classes)
    return build_method(name, cache.shapes, settings, size, training.initialization, n_classes)


def _tested(training: TrainingRecord, images: Sequence[Entry], manifest: str, source: Path) -> dict[int, Entry]:
    """The test images that were not learned from, and that no search was judged by, by their number.

    Raises:
        NfbenchError: an image that was learned from is not in the manifest.
    """
    learned = set(training.anomalies.real if training.anomalies else ())
    learned |= set(training.search.validation if training.search else ())
    unknown = sorted(learned - {entry.image for entry in images})
    if unknown:
        raise NfbenchError(
            f"{source}: made use of {unknown[0]}, which manifest {manifest} does not have in its test split; train "
            "again"
        )
    return {index: entry for index, entry in enumerate(images) if entry.image not in learned}


def _class_number(training: TrainingRecord, category: str, train_features: FeatureCache, source: Path) -> int:
    """Number of the class of a category among those that the model was trained on, by its whole name.

    Raises:
        NfbenchError: it was trained on others, or on other images of this one.
    """
    classes = training.classes
    if category not in classes:
        raise NfbenchError(f"{source}: the model knows no class '{category}', only {', '.join(classes)}")
    if classes[category].key != train_features.meta.key:
        raise NfbenchError(
            f"{source}: the model was trained on other features of '{category}' than {train_features.path}; train again"
        )
    return list(classes).index(category)


def _learned_positions(
    training: TrainingRecord, images: Sequence[Entry], features: CachedFeatures, side: int
) -> list[Positions]:
    """Positions of the anomalous test images that were learned from, if any and if they have masks."""
    learned = set(training.anomalies.real if training.anomalies else ())
    rows = [row for row, entry in enumerate(images) if entry.image in learned]
    truth = GroundTruth([images[row] for row in rows])
    if not rows or not truth.has_masks:
        return []
    return [positions_of_test(features[rows], truth, side)._replace(groups=(None, "learned"))]


def _pseudo_positions(
    training: TrainingRecord, pseudo: FeatureCache | None, entries: Sequence[Entry], device: torch.device
) -> list[Positions]:
    """Positions of some pseudo-anomalies: the first cached views, or new ones where they are made online."""
    groups = (None, "pseudo")
    if pseudo is not None:
        first, (cached, cached_masks) = np.s_[:_PSEUDO_IMAGES, 0], pseudo.pseudo_views
        return [Positions(cached[first], cached_masks[first], groups)]
    found = training.anomalies
    if found is None or found.generator is None:
        return []
    config = AnomaliesConfig(generator=found.generator, real=len(found.real))
    size = training.features.input_size
    generator, _ = make_generator(config, entries, training.spec.cell.seed, size)
    source = OnlineFeatures(pseudo_anomalies([generator]), len(generator), training.features.recipe, device)
    images = torch.arange(min(_PSEUDO_IMAGES, len(generator)))
    features, masks = source.read(images, images)  # any seeds do
    return [Positions(features, required(masks, "the mask of a pseudo-anomaly").cpu().numpy(), groups)]

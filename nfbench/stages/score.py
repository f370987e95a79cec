"""From a trained model and cached features to scores and maps, which ``evaluate_run`` later deletes.

Writes into the folder ``scored`` of a run: ``<epoch>.npz`` and the maps of each kept epoch, ``likelihoods.csv``,
``representations.npz``, ``variances.npz`` for methods that predict variances, and ``scored.json``.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nfbench.anomalies._base import make_generator
from nfbench.blocks.method import Method, load_method, resolve_settings
from nfbench.config import AnomaliesConfig, Kept, condition_of
from nfbench.core.device import peak_memory_mb, pick_device
from nfbench.core.errors import NfbenchError, required
from nfbench.core.files import remove_stale
from nfbench.core.progress import progress
from nfbench.core.provenance import provenance
from nfbench.core.seals import known_files, verified, write_sealed
from nfbench.datasets._drawn import draw, drawn_entries
from nfbench.datasets._manifest import Entry, read_manifest, view_entries
from nfbench.features.batches import CachedFeatures, of_class
from nfbench.features.building import build_on
from nfbench.features.cache import FeatureCache
from nfbench.features.drawn import drawn_features
from nfbench.features.online import OnlineFeatures, pseudo_anomalies
from nfbench.features.recipe import Recipe
from nfbench.features.tiling import cut, like
from nfbench.metrics._tails import NormalScores
from nfbench.plan.cells import Cell
from nfbench.plan.origin import require_origin
from nfbench.plan.paths import SCORED, TRAINED
from nfbench.plan.specs import ScoreSpec
from nfbench.results.artifacts import choose_examples, write_likelihoods, write_npz, write_representations
from nfbench.results.latency import Latency
from nfbench.results.scored import (
    COPIED,
    VARIANCES,
    ScoringRecord,
    save_scored,
    tested_entries,
    training_of,
)
from nfbench.scoring.evaluate import have_masks
from nfbench.scoring.gradients import GradientMaps
from nfbench.scoring.likelihoods import Positions, likelihood_histograms, positions_of_test
from nfbench.scoring.predictions import predicted_variances
from nfbench.scoring.protocol import Views, score_views
from nfbench.scoring.representations import describe_representations
from nfbench.training.checkpoint import load_kept, load_state
from nfbench.training.crossfit import load_normal
from nfbench.training.record import TrainingRecord

__all__ = ["score_run"]

Timer = Callable[[Method, Recipe, Sequence[Entry], torch.device, int], Latency | None]
"""Measures the latency of a trained model on images; the last argument is their class number."""

_PSEUDO_IMAGES = 40
_DELETED: dict[Kept, Sequence[str]] = {"all": (), "last": TRAINED[1:2], "none": TRAINED[:2]}


def score_run(
    spec: ScoreSpec,
    device: str = "auto",
    threads: int | None = None,
    keep_models: Kept = "all",
    timer: Timer | None = None,
) -> None:
    """Scores the test images of a category with each kept model, and deletes models not to be kept.

    ``timer`` is an argument and not an import, so that the hash of scores does not depend on its code.
    """
    require_origin(spec)
    where = pick_device(device, threads)
    source = Path(spec.trained, "training.json")
    training = training_of(spec.trained, spec.cell)
    train_cache, cache = FeatureCache(spec.train_features), FeatureCache(spec.features)
    pseudo = FeatureCache(spec.pseudo) if spec.pseudo else None
    for used in filter(None, (train_cache, cache, pseudo)):
        used.require_same_source(training.features, source)
    number = _class_number(training, spec.cell.category, train_cache, source)
    model = _build(training, cache).to(where).eval()
    entries = read_manifest(spec.manifest)
    for used in (train_cache, cache):
        used.require_images(view_entries(entries, used.meta.view), spec.manifest)
    images = view_entries(entries, condition_of(spec.cell.condition).test_view)
    left_out = draw(entries, spec.cell.condition, spec.cell.seed).left_out
    by_number = tested_entries(training, images, spec.manifest, left_out)
    tested = list(by_number.values())
    features = of_class(cache.features, number) if model.takes_class else cache.features
    learned = _learned_positions(training, images, features, model.map_size)
    features = like(features, train_cache.features)
    if len(tested) < len(cache):
        features = features.select(list(by_number))
    views = _views(model, training.spec.cell, train_cache, cache, features, entries, tested, number, where)
    has_masks = bool(tested) and have_masks(tested)
    shown = [positions_of_test(features, tested, model.map_size), *learned] if has_masks else []
    drawn = [*shown, *_pseudo_positions(training, pseudo, entries, where)] if shown else []

    folder = Path(spec.run, SCORED).parent
    remove_stale(folder)
    names = [*COPIED]
    likelihoods = {"before": list(likelihood_histograms(model, drawn, where))}
    held_out, cross_fitted = training.classes[spec.cell.category].held_out, _cross_fitted(spec.cell.category, source)
    kept = _models(training, source)
    epochs = list(kept)
    for epoch in progress(epochs, total=len(epochs), label=f"score {spec.cell}"):
        load_method(model, kept.pop(epoch))  # no second copy of its weights stays in memory
        scored = score_views(model, views, where, held_out, cross_fitted, folder)
        names += save_scored(folder, epoch, scored)
    likelihoods["after"] = list(likelihood_histograms(model, drawn, where))
    write_likelihoods(folder, likelihoods)
    write_representations(folder, describe_representations(model, views.normal, shown, where))
    examples = choose_examples(scored.test.images["paper"], tested, images)
    variances = predicted_variances(model, features, where, examples.rows)
    if variances is not None:
        write_npz(folder / VARIANCES, {"variances": variances})
        names.append(VARIANCES)
    if training_of(spec.trained, spec.cell) != training:
        raise NfbenchError(f"{source} changed while its model was in use; run 'snakemake' again")
    record = ScoringRecord(
        spec=spec,
        epochs=epochs,
        train_features=train_cache.meta,
        features=cache.meta,
        peak_memory_mb=peak_memory_mb(where),
        latency=timer(model, cache.meta.recipe, tested, where, number) if timer else None,
        provenance=provenance(where),
        written=known_files(folder, names),
    )
    write_sealed(Path(spec.run, SCORED), record)
    for name in _DELETED[keep_models]:
        Path(spec.trained, name).unlink(missing_ok=True)


def _views(
    model: Method,
    trained: Cell,
    train_cache: FeatureCache,
    test_cache: FeatureCache,
    test: CachedFeatures,
    entries: Sequence[Entry],
    tested: Sequence[Entry],
    number: int,
    device: torch.device,
) -> Views:
    """Returns the features of training, validation and tested images, with a localizer if the method needs one.

    Args:
        model: the method.
        trained: cell of the training, whose condition decides which images were trained on.
        train_cache: features of the view ``train``.
        test_cache: features of all test images.
        test: features of the tested images, with the class if the method takes it.
        entries: manifest of the category.
        tested: tested images.
        number: class number.
        device: device for computation.
    """
    drawn, n_all = draw(entries, trained.condition, trained.seed), sum(entry.split == "train" for entry in entries)
    images = drawn_entries(entries, drawn)
    ends = {"normal": (0, drawn.n_train)}
    parts: dict[str, Any] = {"normal": drawn_features(train_cache, test_cache, n_all, drawn)}
    if drawn.n_train < len(images):
        ends["validation"] = (drawn.n_train, len(images))
        parts["validation"] = train_cache.part(n_all, len(train_cache))
    if model.takes_class:
        parts = {name: of_class(part, number) for name, part in parts.items()}
    if model.gradient_maps:
        shown = {"test": cut(tested, test.tiling)}
        shown |= {name: cut(images[slice(*rows)], parts[name].tiling) for name, rows in ends.items()}
        recipe = train_cache.meta.recipe
        parts |= {f"localize_{name}": GradientMaps(model, part, recipe, device) for name, part in shown.items()}
    return Views(test=test, **parts)


def _cross_fitted(category: str, source: Path) -> NormalScores | None:
    """Returns the cross-fitted scores of a category, if there are any."""
    return load_normal(verified(source.with_name("held_out.safetensors"), source)).get(category)


def _models(training: TrainingRecord, source: Path) -> dict[int, dict[str, Tensor]]:
    """Returns the states of the kept models by epoch, the last epoch at the end."""
    last = load_state(verified(source.with_name("model.safetensors"), source))
    return {**load_kept(verified(source.with_name("checkpoints.safetensors"), source)), training.epochs: last}


def _build(training: TrainingRecord, cache: FeatureCache) -> Method:
    """Builds the method as it was before training."""
    name = training.spec.method
    settings = resolve_settings(name, overrides=training.settings)
    return build_on(cache.meta.backbone, name, settings, training.initialization, len(training.classes))


def _class_number(training: TrainingRecord, category: str, train_features: FeatureCache, source: Path) -> int:
    """Returns the class number of a category among those that the model was trained on.

    Raises:
        NfbenchError: the model was trained on other categories, or on other features of this one.
    """
    classes = training.classes
    if category not in classes:
        raise NfbenchError(f"{source}: the model has no class '{category}', only {', '.join(classes)}")
    if classes[category].key != train_features.meta.key:
        raise NfbenchError(
            f"{source}: the model was trained on other features of '{category}' than {train_features.path}; train again"
        )
    return list(classes).index(category)


def _learned_positions(
    training: TrainingRecord, images: Sequence[Entry], features: CachedFeatures, size: tuple[int, int]
) -> list[Positions]:
    """Returns positions of the anomalous test images used for training, if any and if they have masks."""
    learned = set(training.anomalies.real if training.anomalies else ())
    rows = [row for row, entry in enumerate(images) if entry.image in learned]
    shown = [images[row] for row in rows]
    if not rows or not have_masks(shown):
        return []
    return [positions_of_test(features[rows], shown, size)._replace(groups=(None, "learned"))]


def _pseudo_positions(
    training: TrainingRecord, pseudo: FeatureCache | None, entries: Sequence[Entry], device: torch.device
) -> list[Positions]:
    """Returns positions of some pseudo-anomalies: the first cached ones, or new ones if they are online."""
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
    features, masks = source.read(images, images)  # the seeds do not matter here
    return [Positions(features, required(masks, "the mask of a pseudo-anomaly").cpu().numpy(), groups)]

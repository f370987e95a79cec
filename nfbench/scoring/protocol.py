"""Score a run: normal images, test images, and both again as published."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from nfbench.blocks.method import Method
from nfbench.core.errors import required
from nfbench.features.batches import CachedFeatures, read_batches
from nfbench.metrics import TRANSDUCTIVE, ThresholdSource
from nfbench.metrics._tails import NormalScores
from nfbench.metrics._thresholds import contour_threshold
from nfbench.scoring.evaluate import Evaluation, GroundTruth, evaluate
from nfbench.scoring.maps import Localizer, ScoredImages, log_nfa_maps, score_images, score_normal

__all__ = ["Scored", "ScoredViews", "Views", "measure", "score_views"]


class Views(NamedTuple):
    """Cached features of training, test and validation images, and localizers for methods without maps.

    There may be no test images; ``validation`` is None where there are no such images.
    """

    normal: CachedFeatures
    test: CachedFeatures
    localize_normal: Localizer | None = None
    localize_test: Localizer | None = None
    validation: CachedFeatures | None = None
    localize_validation: Localizer | None = None


class ScoredViews(NamedTuple):
    """A trained method's scores of the images of a category.

    Attributes:
        test: of the test images.
        normal_energies: of the training images, as ``ScoredImages.energies``.
        normal: statistics of normal images that thresholds need.
        source: which normal images these are.
        published: both again by the published scores, for transductive methods.
        seconds: one pass over the test images.
    """

    test: ScoredImages
    normal_energies: tuple[np.ndarray, ...]
    normal: NormalScores
    source: ThresholdSource
    published: tuple[ScoredImages, NormalScores] | None
    seconds: float


class Scored(NamedTuple):
    """A scored test set, and statistics of the normal training images.

    Attributes:
        normal_energies: of the training images, as ``ScoredImages.energies``.
        contour: threshold of the maps above which figures draw a contour; None without maps.
        normal: statistics of normal images that thresholds need.
        source: which normal images these are.
        seconds: ``score``, one pass over the test images; ``log_nfa``, their maps of log NFA, with and without guard.
    """

    truth: GroundTruth
    test: ScoredImages
    normal_energies: tuple[np.ndarray, ...]
    log_nfa: Mapping[str, np.ndarray]
    evaluation: Evaluation
    contour: float | None
    normal: NormalScores
    source: ThresholdSource
    seconds: dict[str, float]


def score_views(
    method: Method,
    views: Views,
    device: torch.device,
    held_out: Sequence[int] = (),
    cross_fitted: NormalScores | None = None,
    folder: Path | None = None,
) -> ScoredViews:
    """Score the images of a category.

    Args:
        method: trained, on ``device``, in evaluation mode.
        views: features of normal training images, of test images, and of validation images if there are any:
            thresholds are then taken from these.
        device: where to compute.
        held_out: rows of the training images that the method was not trained on; thresholds are theirs, if any.
        cross_fitted: scores for thresholds, instead of this method's scores of training images.
        folder: for files of arrays too large for memory; see ``nfbench.core.scratch.empty``.

    The scores of an image do not depend on other test images. ``method`` is left calibrated by its last use.
    """
    normal, source = cross_fitted, _source(views, held_out, cross_fitted)
    normal_energies: tuple[np.ndarray, ...] = ()
    if views.validation is not None:
        normal = _score_validation(method, views, device, folder)
    if source in ("held out", "training") or method.latent_shapes():
        found = score_normal(method, views.normal, device, held_out, views.localize_normal, folder)
        normal, normal_energies = normal or found.scores, found.energies
    normal = required(normal, "the scores of normal images")
    started = time.monotonic()
    test = _score_test(method, views, device, folder)
    seconds = round(time.monotonic() - started, 3)
    published = None
    if method.transductive and len(views.test):
        method.calibrate(lambda: read_batches(views.test, torch.arange(len(views.test)), device))
        of_set = score_images(method, views.test, device, folder=folder)
        again = views._replace(localize_normal=None, localize_validation=None)
        if views.validation is not None:
            published = of_set, _score_validation(method, again, device, folder)
        else:
            published = of_set, score_normal(method, views.normal, device, held_out, folder=folder).scores
    elif method.transductive:
        published = test, normal
    return ScoredViews(test, normal_energies, normal, source, published, seconds)


def _score_validation(method: Method, views: Views, device: torch.device, folder: Path | None) -> NormalScores:
    """Scores of the validation images, which are numbered after the training images."""
    validation = required(views.validation, "the validation images")
    scores = score_normal(method, validation, device, (), views.localize_validation, folder).scores
    return replace(scores, rows=scores.rows + views.normal.n_images)


def _source(views: Views, held_out: Sequence[int], cross_fitted: NormalScores | None) -> ThresholdSource:
    """Return which normal images the thresholds are taken from."""
    if views.validation is not None:
        return "validation"
    return "cross-fitted" if cross_fitted else "held out" if len(held_out) else "training"


def _score_test(method: Method, views: Views, device: torch.device, folder: Path | None) -> ScoredImages:
    """Score the test images; without any, return empty arrays under the same names."""
    if len(views.test):
        return score_images(method, views.test, device, localize=views.localize_test, folder=folder)
    one = score_images(method, views.normal, device, [0], views.localize_normal, folder)
    images = {rule: scores[:0] for rule, scores in one.images.items()}
    maps = None if one.maps is None else one.maps[:0]
    return ScoredImages(maps, images, tuple(energies[:0] for energies in one.energies), one.channels)


def measure(views: ScoredViews, truth: GroundTruth, measured: Sequence[str] = (), folder: Path | None = None) -> Scored:
    """Measure the scores of a category.

    For transductive methods, names that end in ``_transductive`` hold the metrics of the published scores
    as well.

    Args:
        views: the scores.
        truth: labels and masks of the test images.
        measured: families of metrics, by default all.
        folder: for files of arrays too large for memory; see ``nfbench.core.scratch.empty``.
    """
    started = time.monotonic()
    log_nfa = log_nfa_maps(views.test, folder)
    seconds = {"score": views.seconds, "log_nfa": round(time.monotonic() - started, 3)}
    evaluation = evaluate(views.test, truth, views.normal, log_nfa, measured, folder)
    if views.published:
        published = evaluate(views.published[0], truth, views.published[1], {}, measured, folder)
        evaluation.metrics.update({f"{name}{TRANSDUCTIVE}": value for name, value in published.metrics.items()})
    contour = contour_threshold(views.normal.tail) if views.normal.has_maps else None
    return Scored(
        truth=truth,
        test=views.test,
        normal_energies=views.normal_energies,
        log_nfa=log_nfa,
        evaluation=evaluation,
        contour=contour,
        normal=views.normal,
        source=views.source,
        seconds=seconds,
    )

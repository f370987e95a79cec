"""What is scored of a run, and in which order: normal images, test images, and both again as published."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from nfbench.blocks.method import Method
from nfbench.features.batches import CachedFeatures, read_batches
from nfbench.metrics import TRANSDUCTIVE, ThresholdSource
from nfbench.metrics._tails import UpperTail
from nfbench.scoring.evaluate import Evaluation, GroundTruth, evaluate, log_nfa_maps
from nfbench.scoring.maps import Localizer, ScoredImages, contour_threshold, score_images, score_normal

__all__ = ["Scored", "Views", "score_and_evaluate"]


class Views(NamedTuple):
    """Cached features of the training and test images, and what makes their maps where the method does not."""

    normal: CachedFeatures
    test: CachedFeatures
    localize_normal: Localizer | None = None
    localize_test: Localizer | None = None


class Scored(NamedTuple):
    """A scored test set, and what is known of the normal training images.

    Attributes:
        normal_energies: of the training images, as ``ScoredImages.energies``.
        contour: threshold of the maps above which figures draw a contour; None without maps.
        threshold_images: where it and the fair threshold come from, and from how many images; None without maps.
        seconds: ``score``, one pass over the test images; ``log_nfa``, their maps of log NFA, with and without guard.
    """

    truth: GroundTruth
    test: ScoredImages
    normal_energies: tuple[np.ndarray, ...]
    log_nfa: Mapping[str, np.ndarray]
    evaluation: Evaluation
    contour: float | None
    threshold_images: tuple[ThresholdSource, int] | None
    seconds: dict[str, float]


def score_and_evaluate(
    method: Method,
    views: Views,
    truth: GroundTruth,
    device: torch.device,
    held_out: Sequence[int] = (),
    measured: Sequence[str] = (),
    cross_fitted: UpperTail | None = None,
    folder: Path | None = None,
) -> Scored:
    """Scores and measures a trained method.

    Args:
        method: trained, on ``device``, in evaluation mode.
        views: features of normal training images and of test images.
        truth: labels and masks of the test images.
        device: where to compute.
        held_out: rows of the training images that the method was not trained on; thresholds are theirs, if any.
        measured: families of metrics, by default all.
        cross_fitted: what thresholds are taken from instead of this method's maps of normal images.
        folder: of files for what may not stay in memory; see ``nfbench.core.scratch.empty``.

    The scores of an image do not depend on other test images. For transductive methods the metrics hold, under names
    that end in ``_transductive``, those of the published scores as well. ``method`` is left calibrated by its last use.
    """
    tail = cross_fitted
    normal_energies: tuple[np.ndarray, ...] = ()
    if cross_fitted is None or method.latent_shapes():
        normal = score_normal(method, views.normal, device, held_out, views.localize_normal, folder)
        tail, normal_energies = cross_fitted or normal.tail, normal.energies
    clock = [time.monotonic()]
    test = score_images(method, views.test, device, localize=views.localize_test, folder=folder)
    clock.append(time.monotonic())
    log_nfa = log_nfa_maps(test, folder)
    clock.append(time.monotonic())
    evaluation = evaluate(test, truth, tail, log_nfa, measured, folder)
    if method.transductive:
        method.calibrate(lambda: read_batches(views.test, torch.arange(len(views.test)), device))
        of_set = score_images(method, views.test, device, folder=folder)
        normal = score_normal(method, views.normal, device, held_out, folder=folder)
        published = evaluate(of_set, truth, normal.tail, {}, measured, folder)
        evaluation.metrics.update({f"{name}{TRANSDUCTIVE}": value for name, value in published.metrics.items()})
    seconds = dict(zip(("score", "log_nfa"), np.diff(clock).round(3).tolist(), strict=True))
    source: ThresholdSource = "cross-fitted" if cross_fitted else "held out" if len(held_out) else "training"
    contour = None if tail is None else contour_threshold(tail)
    chosen_on = None if tail is None else (source, tail.n_images)
    return Scored(truth, test, normal_energies, log_nfa, evaluation, contour, chosen_on, seconds)

"""What is scored of a run, and in which order: normal training images, test images, and both again as published."""

import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch

from nfbench.blocks.method import Method
from nfbench.features.batches import CachedFeatures, read_batches
from nfbench.metrics import TRANSDUCTIVE
from nfbench.scoring.evaluate import Evaluation, GroundTruth, evaluate, log_nfa_maps
from nfbench.scoring.maps import Localizer, ScoredImages, contour_threshold, score_images

__all__ = ["Scored", "Views", "score_and_evaluate"]

_CONTOUR_IMAGES = 32


class Views(NamedTuple):
    """Cached features of the training and test images, and what makes their maps where the method does not."""

    normal: CachedFeatures
    test: CachedFeatures
    localize_normal: Localizer | None = None
    localize_test: Localizer | None = None


class Scored(NamedTuple):
    """A scored test set, and the scores of the normal training images.

    Attributes:
        normal: without maps, which thresholds take and nothing else.
        contour: threshold of the maps above which figures draw a contour; None without maps.
        seconds: ``score``, one pass over the test images; ``log_nfa``, their maps of log NFA, with and without guard.
    """

    truth: GroundTruth
    test: ScoredImages
    normal: ScoredImages
    log_nfa: Mapping[str, np.ndarray]
    evaluation: Evaluation
    contour: float | None
    seconds: dict[str, float]


def score_and_evaluate(
    method: Method,
    views: Views,
    truth: GroundTruth,
    device: torch.device,
    held_out: Sequence[int] = (),
    measured: Sequence[str] = (),
) -> Scored:
    """Scores and measures a trained method.

    Args:
        method: trained, on ``device``, in evaluation mode.
        views: features of normal training images and of test images.
        truth: labels and masks of the test images.
        device: where to compute.
        held_out: rows of the training images that the method was not trained on; the contour is theirs, if any.
        measured: families of metrics, by default all.

    The scores of an image do not depend on other test images. For transductive methods the metrics hold, under names
    that end in ``_transductive``, those of the published scores as well. ``method`` is left calibrated by its last use.
    """
    normal = score_images(method, views.normal, device, localize=views.localize_normal)
    clock = [time.monotonic()]
    test = score_images(method, views.test, device, localize=views.localize_test)
    clock.append(time.monotonic())
    log_nfa = log_nfa_maps(test)
    clock.append(time.monotonic())
    evaluation = evaluate(test, truth, normal.maps, log_nfa, measured)
    if method.transductive:
        method.calibrate(lambda: read_batches(views.test, torch.arange(len(views.test)), device))
        of_set = [score_images(method, features, device) for features in (views.test, views.normal)]
        published = evaluate(of_set[0], truth, of_set[1].maps, {}, measured)
        evaluation.metrics.update({f"{name}{TRANSDUCTIVE}": value for name, value in published.metrics.items()})
    seconds = dict(zip(("score", "log_nfa"), np.diff(clock).round(3).tolist(), strict=True))
    contour = None
    if normal.maps is not None:
        contour = contour_threshold(_spread(normal.maps[list(held_out)] if len(held_out) else normal.maps))
    normal = normal._replace(maps=None)
    return Scored(truth, test, normal, log_nfa, evaluation, contour, seconds)


def _spread(maps: np.ndarray) -> np.ndarray:
    """At most ``_CONTOUR_IMAGES`` of the maps, evenly spaced."""
    return maps[np.linspace(0, len(maps) - 1, min(len(maps), _CONTOUR_IMAGES)).astype(int)]

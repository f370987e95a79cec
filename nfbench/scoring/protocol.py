"""What is scored of a run, and in which order: normal training images, test images, and both again as published."""

import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch

from nfbench.blocks.method import Method
from nfbench.config import TRANSDUCTIVE
from nfbench.scoring.evaluate import Evaluation, GroundTruth, evaluate, log_nfa_maps
from nfbench.scoring.maps import Localizer, ScoredImages, score_images
from nfbench.training.data import read_batches

__all__ = ["Scored", "Views", "score_and_evaluate"]


class Views(NamedTuple):
    """Cached features of the training and test images, and what makes their maps where the method does not."""

    normal: Sequence[np.ndarray]
    test: Sequence[np.ndarray]
    localize_normal: Localizer | None = None
    localize_test: Localizer | None = None


class Scored(NamedTuple):
    """A scored test set, and the scores of the normal training images.

    Attributes:
        normal: without maps, which the fair threshold takes and nothing else.
        seconds: ``score``, one pass over the test images; ``log_nfa``, their maps of log NFA, with and without guard.
    """

    truth: GroundTruth
    test: ScoredImages
    normal: ScoredImages
    log_nfa: Mapping[str, np.ndarray]
    evaluation: Evaluation
    seconds: dict[str, float]


def score_and_evaluate(method: Method, views: Views, truth: GroundTruth, device: torch.device) -> Scored:
    """Scores and measures a trained method.

    The scores of an image do not depend on other test images. For transductive methods the metrics hold, under names
    that end in ``_transductive``, those of the published scores as well. ``method`` is left calibrated by its last use.
    """
    normal = score_images(method, views.normal, device, localize=views.localize_normal)
    clock = [time.monotonic()]
    test = score_images(method, views.test, device, localize=views.localize_test)
    clock.append(time.monotonic())
    log_nfa = log_nfa_maps(test)
    clock.append(time.monotonic())
    evaluation = evaluate(test, truth, normal.maps, log_nfa)
    if method.transductive:
        method.calibrate(lambda: read_batches(views.test, torch.arange(len(views.test[0])), device))
        of_set = [score_images(method, levels, device) for levels in (views.test, views.normal)]
        published = evaluate(of_set[0], truth, of_set[1].maps, {})
        evaluation.metrics.update({f"{name}{TRANSDUCTIVE}": value for name, value in published.metrics.items()})
    seconds = dict(zip(("score", "log_nfa"), np.diff(clock).round(3).tolist(), strict=True))
    normal = normal._replace(maps=np.empty((0, *normal.maps.shape[1:]), dtype=np.float32))
    return Scored(truth, test, normal, log_nfa, evaluation, seconds)

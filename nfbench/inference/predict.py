"""Prediction: scores and decisions for new images, batch by batch."""

import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple, Protocol

import numpy as np
from PIL import Image

from nfbench.core.errors import NfbenchError
from nfbench.core.input_size import InputSize
from nfbench.inference.decisions import Decisions, Detection
from nfbench.inference.images import Given, Prepared, prepared
from nfbench.results.thresholds import ThresholdsRecord
from nfbench.scoring.maps import resize_map

__all__ = ["Located", "Model", "Prediction", "decide", "predict"]


class Model(Protocol):
    """Interface of a model that scores images: of a run, or from an exported file."""

    @property
    def size(self) -> InputSize | None:
        """Height and width that images are resized to, in pixels; None for a model that takes whole images."""

    @property
    def thresholds(self) -> ThresholdsRecord:
        """Scores of normal images that the model was not fitted to."""

    def locate(self, squares: Sequence[Image.Image], nfa: bool) -> "Located":
        """Scores ``B`` images of this ``size``, or of any size without; ``nfa`` requests maps of -log10 NFA."""


class Located(NamedTuple):
    """Scores and maps of ``B`` images.

    Attributes:
        scores: image scores ``(B,)``, float32; higher is more anomalous.
        maps: maps ``(B, h, w)``, float32, or of -log10 NFA if requested; None for methods without maps.
    """

    scores: np.ndarray
    maps: np.ndarray | None


class Prediction(NamedTuple):
    """Prediction for one image.

    Attributes:
        given: the input image.
        score: image score. If the image could not be read, this and the following are None.
        anomalous: whether the image is anomalous by the threshold.
        p_value: share of normal images that score at least as high, counting the image itself.
        score_map: map ``(H, W)`` at the size of the image; None for methods without maps.
        detection: anomalous pixels and regions of the map; None without maps.
        seconds: time for decoding, plus the image's share of the batch.
        error: why the image could not be read.
    """

    given: Given
    score: float | None = None
    anomalous: bool | None = None
    p_value: float | None = None
    score_map: np.ndarray | None = None
    detection: Detection | None = None
    seconds: float = 0.0
    error: str = ""


def predict(
    model: Model, decisions: Decisions, images: Iterable[Given], batch_size: int = 16, threads: int = 2
) -> Iterator[Prediction]:
    """Scores images in order and decides on them; keeps only a few batches in memory.

    Args:
        model: model for scoring.
        decisions: thresholds.
        images: input images; predictions of unreadable ones contain the reason.
        batch_size: number of images per batch.
        threads: number of threads that read images.
    """
    read = prepared(images, model.size, threads)
    while batch := list(_until(read, batch_size)):
        squares = [image.square for image in batch if image.square is not None]
        started = time.monotonic()
        located = model.locate(squares, decisions.rule == "nfa") if squares else None
        share = (time.monotonic() - started) / max(1, len(squares))
        row = 0
        for image in batch:
            if image.square is None or located is None:
                yield Prediction(image.given, seconds=image.seconds, error=image.error)
                continue
            score_map = None if located.maps is None else located.maps[row]
            yield decide(decisions, image, float(located.scores[row]), score_map, share)
            row += 1


def _until(read: Iterator[Prepared], batch_size: int) -> Iterator[Prepared]:
    """Yields images until ``batch_size`` of them are readable; unreadable ones do not count."""
    left = batch_size
    for image in islice(read, 64 * batch_size):
        yield image
        left -= image.square is not None
        if not left:
            return


def decide(
    decisions: Decisions, image: Prepared, score: float, score_map: np.ndarray | None, seconds: float = 0.0
) -> Prediction:
    """Builds the prediction of a scored image.

    Args:
        decisions: thresholds.
        image: the image.
        score: image score.
        score_map: map ``(h, w)``, of -log10 NFA for the rule ``nfa``; None for methods without maps.
        seconds: duration of scoring.

    Raises:
        NfbenchError: the rule needs a map, but there is none.
    """
    started = time.monotonic()
    width, height = image.size
    resized = None if score_map is None else resize_map(score_map, height, width)
    detection = None if resized is None else decisions.detect(resized)
    if detection is None and decisions.image is None:
        raise NfbenchError("the rule 'nfa' decides by regions, but this method has no maps; use another '--rule'")
    anomalous = decisions.is_anomalous(score, detection)
    spent = image.seconds + seconds + time.monotonic() - started
    return Prediction(image.given, score, anomalous, decisions.p_value(score), resized, detection, spent)

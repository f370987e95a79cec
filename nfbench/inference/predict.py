"""Scores and decisions of new images, one batch at a time."""

import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple, Protocol

import numpy as np
from PIL import Image

from nfbench.core.errors import NfbenchError
from nfbench.inference.decisions import Decisions, Detection
from nfbench.inference.images import Given, Prepared, prepared
from nfbench.results.thresholds import ThresholdsRecord
from nfbench.scoring.maps import resize_map

__all__ = ["Located", "Model", "Prediction", "decide", "predict"]


class Model(Protocol):
    """What scores images: the model of a run, or an exported file."""

    @property
    def side(self) -> int:
        """Side of the square that images are resized to, in pixels."""

    @property
    def thresholds(self) -> ThresholdsRecord:
        """Scores of normal images that the model was not fitted to."""

    def locate(self, squares: Sequence[Image.Image], nfa: bool) -> "Located":
        """Scores ``B`` images of this side; ``nfa`` asks for maps of -log10 NFA."""


class Located(NamedTuple):
    """What a model says of ``B`` images.

    Attributes:
        scores: image scores ``(B,)``, float32; higher is more anomalous.
        maps: ``(B, h, w)`` float32, of -log10 NFA where these were asked for; None of methods without maps.
    """

    scores: np.ndarray
    maps: np.ndarray | None


class Prediction(NamedTuple):
    """What is known of an image.

    Attributes:
        given: the image.
        score: its image score; None where it could not be read, and so are the next ones.
        anomalous: whether it is, by the threshold.
        p_value: share of normal images that score at least as high, the image itself counted among them.
        score_map: its map ``(H, W)`` at its own size; None of methods without maps.
        detection: what the map marks; None without.
        seconds: of its decoding, and its share of the batch's.
        error: why it could not be read.
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
    """Scores and decides on images in their order, as they come; no more than some batches are in memory.

    Args:
        model: scores them.
        decisions: decides.
        images: what to score; those that cannot be read are passed on with the reason.
        batch_size: images that the model is given at once.
        threads: that read images.
    """
    read = prepared(images, model.side, threads)
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
    """Images until ``batch_size`` of them could be read: the others take no place in a batch."""
    left = batch_size
    for image in islice(read, 64 * batch_size):
        yield image
        left -= image.square is not None
        if not left:
            return


def decide(
    decisions: Decisions, image: Prepared, score: float, score_map: np.ndarray | None, seconds: float = 0.0
) -> Prediction:
    """The prediction for an image that was scored.

    Args:
        decisions: decides.
        image: the image.
        score: its image score.
        score_map: its map ``(h, w)``, of -log10 NFA for the rule ``nfa``; None of methods without maps.
        seconds: that scoring took.

    Raises:
        NfbenchError: the rule needs a map and there is none.
    """
    started = time.monotonic()
    width, height = image.size
    resized = None if score_map is None else resize_map(score_map, height, width)
    detection = None if resized is None else decisions.detect(resized)
    if detection is None and decisions.image is None:
        raise NfbenchError("the rule 'nfa' decides by regions, and this method makes no maps; take another '--rule'")
    anomalous = decisions.is_anomalous(score, detection)
    spent = image.seconds + seconds + time.monotonic() - started
    return Prediction(image.given, score, anomalous, decisions.p_value(score), resized, detection, spent)

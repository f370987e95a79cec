"""Decisions from scores and maps, with thresholds from normal images only."""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple, Self

import numpy as np

from nfbench.core.errors import NfbenchError, required
from nfbench.metrics._thresholds import ALPHA, SIGMAS, conformal_threshold, image_threshold, p_values
from nfbench.results.thresholds import ThresholdsRecord

__all__ = ["Box", "DecisionRule", "Decisions", "Detection"]

DecisionRule = Literal["conformal", "sigma", "quantile", "nfa"]


class Box(NamedTuple):
    """Bounding box of an 8-connected region of a mask, in pixels; ``right`` and ``bottom`` are exclusive.

    Attributes:
        area: number of pixels of the region.
        largest: largest value of the map in the region.
    """

    left: int
    top: int
    right: int
    bottom: int
    area: int
    largest: float


class Detection(NamedTuple):
    """Anomalous pixels of an image: mask ``(H, W)`` bool, and its regions, the largest first."""

    mask: np.ndarray
    boxes: list[Box]


@dataclass(frozen=True)
class Decisions:
    """Thresholds of one model for images and pixels.

    Attributes:
        rule: rule that chooses the thresholds.
        normal: image scores of the normal images ``(n,)``.
        image: threshold of the image score; higher scores are anomalous. None for ``nfa``: an image is anomalous if it
            has an anomalous region.
        pixel: threshold of the map; None for methods without maps. For ``nfa``, 0 as threshold of -log10 NFA.
        centre: mean of the pixels of normal images, the dark end of heat maps; None without maps.
    """

    rule: DecisionRule
    normal: np.ndarray
    image: float | None
    pixel: float | None
    centre: float | None

    @classmethod
    def of(cls, record: ThresholdsRecord, rule: DecisionRule, alpha: float = ALPHA, sigmas: float = SIGMAS) -> Self:
        """Derives thresholds from normal images by a rule.

        Args:
            record: scores of the normal images.
            rule: the rule.
            alpha: false-alarm rate on normal images: guaranteed for ``conformal``, empirical for ``quantile``.
            sigmas: number of standard deviations above the mean, for ``sigma``.

        Raises:
            NfbenchError: there are too few normal images for ``alpha``.
        """
        scores, pixels = record.scores, record.pixels
        if rule == "nfa":
            return cls(rule, scores, None, 0.0, 0.0)
        image = image_threshold(scores, rule, alpha, sigmas, 1 - alpha)
        if math.isinf(image):
            raise NfbenchError(
                f"{len(scores)} held-out normal images are too few to guarantee a false-alarm rate of {alpha:g}; the "
                f"lowest is {1 / (len(scores) + 1):.3g}; use '--alpha {_rounded_up(1 / (len(scores) + 1))}', "
                "'--rule sigma', or hold out more images"
            )
        if pixels is None:
            return cls(rule, scores, image, None, None)
        by_rule = {"sigma": pixels.mean + sigmas * pixels.std, "quantile": pixels.quantile}
        pixel = by_rule[rule] if rule in by_rule else conformal_threshold(record.largest, alpha)
        return cls(rule, scores, image, pixel, pixels.mean)

    def p_value(self, score: float) -> float:
        """Returns the share of normal images that score at least as high, counting the image itself."""
        return float(p_values(self.normal, np.array([score], np.float32))[0])

    def detect(self, score_map: np.ndarray) -> Detection:
        """Detects anomalous pixels in a map ``(H, W)`` at the size of the image."""
        from scipy import ndimage

        mask = score_map > required(self.pixel, "the threshold of the map")
        labels, _ = ndimage.label(mask, np.ones((3, 3)))
        boxes = []
        for number, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
            inside = score_map[rows, columns][labels[rows, columns] == number]
            edges = (columns.start, rows.start, columns.stop, rows.stop)
            boxes.append(Box(*edges, inside.size, float(inside.max())))
        return Detection(mask, sorted(boxes, key=lambda box: -box.area))

    def is_anomalous(self, score: float, detection: Detection | None) -> bool:
        """Whether an image is anomalous."""
        return bool(required(detection, "the map").boxes) if self.image is None else score > self.image


def _rounded_up(share: float) -> str:
    """Formats a share with two digits, rounded up."""
    digits = 1 - math.floor(math.log10(share))
    return f"{math.ceil(share * 10**digits) / 10**digits:g}"

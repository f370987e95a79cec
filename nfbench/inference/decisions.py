"""From scores and maps to decisions, by thresholds from normal images alone."""

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
    """An 8-connected region of a mask, in pixels of the image; ``right`` and ``bottom`` lie outside.

    Attributes:
        area: number of its pixels.
        largest: the largest value of the map in it.
    """

    left: int
    top: int
    right: int
    bottom: int
    area: int
    largest: float


class Detection(NamedTuple):
    """Where an image is anomalous: mask ``(H, W)`` bool, and its regions, the largest first."""

    mask: np.ndarray
    boxes: list[Box]


@dataclass(frozen=True)
class Decisions:
    """Decides on images and pixels of one model.

    Attributes:
        rule: how thresholds are chosen.
        normal: image scores of the normal images ``(n,)``.
        image: threshold of the image score: what is above it is anomalous. Of ``nfa`` None: an image is anomalous if a
            region is.
        pixel: threshold of the map; None of methods without maps. Of ``nfa`` that of -log10 NFA, 0.
        centre: mean of the pixels of normal images, the dark end of heat maps; None without maps.
    """

    rule: DecisionRule
    normal: np.ndarray
    image: float | None
    pixel: float | None
    centre: float | None

    @classmethod
    def of(cls, record: ThresholdsRecord, rule: DecisionRule, alpha: float = ALPHA, sigmas: float = SIGMAS) -> Self:
        """The decisions that follow from normal images by a rule.

        Args:
            record: scores of the normal images.
            rule: the rule.
            alpha: largest share of normal images that may be alarmed: of ``conformal``, and of ``quantile`` as it is.
            sigmas: standard deviations above the mean.

        Raises:
            NfbenchError: there are too few normal images for ``alpha``.
        """
        scores, pixels = record.scores, record.pixels
        if rule == "nfa":
            return cls(rule, scores, None, 0.0, 0.0)
        image = image_threshold(scores, rule, alpha, sigmas, 1 - alpha)
        if math.isinf(image):
            raise NfbenchError(
                f"{len(scores)} held-out normal images are too few to promise a false-alarm rate of {alpha:g}: they "
                f"allow {1 / (len(scores) + 1):.3g} at least; take '--alpha {_rounded_up(1 / (len(scores) + 1))}', "
                "'--rule sigma', or hold out more images"
            )
        if pixels is None:
            return cls(rule, scores, image, None, None)
        by_rule = {"sigma": pixels.mean + sigmas * pixels.std, "quantile": pixels.quantile}
        pixel = by_rule[rule] if rule in by_rule else conformal_threshold(record.largest, alpha)
        return cls(rule, scores, image, pixel, pixels.mean)

    def p_value(self, score: float) -> float:
        """Share of normal images that score at least as high, the image itself counted among them."""
        return float(p_values(self.normal, np.array([score], np.float32))[0])

    def detect(self, score_map: np.ndarray) -> Detection:
        """What a map ``(H, W)`` at the size of the image marks."""
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
        """Whether an image is."""
        return bool(required(detection, "the map").boxes) if self.image is None else score > self.image


def _rounded_up(share: float) -> str:
    """With two digits, not below."""
    digits = 1 - math.floor(math.log10(share))
    return f"{math.ceil(share * 10**digits) / 10**digits:g}"

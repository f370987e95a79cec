"""F1 = 2 TP / (2 TP + FP + FN) of images, at thresholds from normal images; see ``_thresholds``.

``image_f1_fixed`` decides by the image score, ``class_f1`` by the pixels, as MVTec AD 2 does: an image is detected if
any pixel of its map is above the pixel threshold.
"""

from typing import TYPE_CHECKING

from nfbench.metrics import BY_THRESHOLD, MAP_SIZE, Metric

if TYPE_CHECKING:
    from nfbench.scoring.evaluate import ScoredSet

__all__ = ["METRICS"]


def _f1(test: "ScoredSet", score: str, threshold: float) -> float:
    from nfbench.metrics._f1 import image_f1

    return image_f1(test.images[score], test.labels, threshold)


def _image_f1(test: "ScoredSet", rule: str) -> float:
    return _f1(test, "paper", test.image_threshold(rule))


def _class_f1(test: "ScoredSet", rule: str) -> float:
    return _f1(test, "max", test.pixel_threshold(rule))


METRICS = [
    Metric(
        "image_f1_fixed",
        "image F1 at the conformal threshold for 5 %",
        _image_f1,
        needs_normal=True,
        variants=BY_THRESHOLD,
        threshold=lambda test, rule: test.image_threshold(rule),
    ),
    Metric(
        "class_f1",
        "ClassF1, image F1 by any pixel above the conformal threshold for 5 %",
        _class_f1,
        needs_normal=True,
        variants=BY_THRESHOLD,
        threshold=lambda test, rule: test.pixel_threshold(rule),
        size=MAP_SIZE,
    ),
]

"""Synthetic textures and parts with pixel masks, made from a seed: images whose defects are known exactly.

Two textures (``fabric``, ``stone``) and two parts (``washer``, ``tablet``), 256 x 256 pixels, 64 normal images for
training, 20 normal and 40 anomalous ones for testing, in MVTec AD's layout. Defects: ``scratch``, ``stain``, ``hole``
and ``smear``, of several sizes and contrasts. Every image follows from (seed, category, split, number) alone.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from nfbench.core.files import atomic_path
from nfbench.datasets.base import Sample
from nfbench.datasets.layout import LayoutDataset

if TYPE_CHECKING:
    import numpy as np

__all__ = ["DATASET", "Synthetic"]

N_TRAIN, N_TEST_NORMAL, N_TEST_PER_DEFECT = 64, 20, 10

_Draw = Callable[[], "np.ndarray"]


class Synthetic(LayoutDataset):
    """Procedural images; generated below ``root`` when they are not there yet."""

    title = "synthetic"
    licence = "Apache-2.0"
    citation = "none"
    source = "generated"
    categories = ("fabric", "stone", "tablet", "washer")

    def available(self, root: Path) -> list[str]:
        """All categories: they are made when needed."""
        return list(self.categories)

    def files(self, root: Path, category: str) -> list[Path]:
        """None: the images follow from this module."""
        return []

    def samples(self, root: Path, category: str) -> list[Sample]:
        """Makes what is missing of a category, then reads it."""
        from nfbench.datasets.drawing import DEFECTS, draw_normal

        folder = root / category
        for number in range(N_TRAIN):
            _write(folder / f"train/good/{number:03}.png", lambda n=number: draw_normal(category, "train", n))
        for number in range(N_TEST_NORMAL):
            _write(folder / f"test/good/{number:03}.png", lambda n=number: draw_normal(category, "test", n))
        for defect in DEFECTS:
            for number in range(N_TEST_PER_DEFECT):
                image, mask = _drawn_once(category, defect, number)
                _write(folder / f"test/{defect}/{number:03}.png", image)
                _write(folder / f"ground_truth/{defect}/{number:03}_mask.png", mask)
        return super().samples(root, category)


def _drawn_once(category: str, defect: str, number: int) -> tuple[_Draw, _Draw]:
    """Image and mask of an anomalous sample, drawn together when the first of them is asked for."""
    from nfbench.datasets.drawing import draw_anomalous

    pair = cache(lambda: draw_anomalous(category, defect, number))
    return (lambda: pair()[0]), (lambda: pair()[1])


def _write(path: Path, draw: _Draw) -> None:
    if not path.exists():
        from PIL import Image

        with atomic_path(path) as temporary:
            Image.fromarray(draw()).save(temporary)


DATASET = Synthetic()

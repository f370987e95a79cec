"""Synthetic textures and parts with exact pixel masks, generated from a seed.

Two textures (``fabric``, ``stone``) and two parts (``washer``, ``tablet``), 256 x 256 pixels, 64 normal images for
training, 20 normal and 40 anomalous ones for testing, in MVTec AD's layout. Defects: ``scratch``, ``stain``, ``hole``
and ``smear``, in several sizes and contrasts. Each image depends only on (seed, category, split, number).
"""

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from nfbench.datasets._base import Sample
from nfbench.datasets._layout import LayoutDataset
from nfbench.datasets._staging import staged_folder

if TYPE_CHECKING:
    import numpy as np

__all__ = ["DATASET", "Synthetic"]

N_TRAIN, N_TEST_NORMAL, N_TEST_PER_DEFECT = 64, 20, 10

_Draw = Callable[[], "np.ndarray"]


class Synthetic(LayoutDataset):
    """Procedural images, generated below ``root`` if they are missing."""

    title = "synthetic"
    licence = "Apache-2.0"
    citation = "none"
    source = "generated"
    categories = ("fabric", "stone", "tablet", "washer")

    def available(self, root: Path) -> list[str]:
        """Lists all categories; they are generated when needed."""
        return list(self.categories)

    def files(self, root: Path, category: str) -> list[Path]:
        """Lists no files: the images depend only on this module."""
        return []

    def is_unmade(self, root: Path, category: str) -> bool:
        """Whether an image or a mask is missing."""
        return any(not (root / category / name).exists() for name in _pictures(category))

    def samples(self, root: Path, category: str) -> list[Sample]:
        """Generates the missing images of a category, then lists it."""
        from PIL import Image

        folder = root / category
        missing = {name: draw for name, draw in _pictures(category).items() if not (folder / name).exists()}
        if missing:
            with staged_folder(folder) as staged:
                for name, draw in missing.items():
                    (staged / name).parent.mkdir(parents=True, exist_ok=True)
                    Image.fromarray(draw()).save(staged / name, compress_level=3)  # same size in a quarter of the time
        return super().samples(root, category)


def _pictures(category: str) -> dict[str, _Draw]:
    """Returns the functions that draw each image and mask of a category, by path below its folder."""
    from nfbench.datasets._drawing import DEFECTS, draw_normal

    pictures: dict[str, _Draw] = {}
    for split, count in (("train", N_TRAIN), ("test", N_TEST_NORMAL)):
        for number in range(count):
            pictures[f"{split}/good/{number:03}.png"] = partial(draw_normal, category, split, number)
    for defect in DEFECTS:
        for number in range(N_TEST_PER_DEFECT):
            image, mask = _drawn_once(category, defect, number)
            pictures |= {f"test/{defect}/{number:03}.png": image, f"ground_truth/{defect}/{number:03}_mask.png": mask}
    return pictures


def _drawn_once(category: str, defect: str, number: int) -> tuple[_Draw, _Draw]:
    """Returns functions for the image and mask of an anomalous sample, which are drawn together on first use."""
    from nfbench.datasets._drawing import draw_anomalous

    pair = cache(lambda: draw_anomalous(category, defect, number))
    return (lambda: pair()[0]), (lambda: pair()[1])


DATASET = Synthetic()

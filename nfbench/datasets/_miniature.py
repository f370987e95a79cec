"""Tiny images in the exact layouts of large datasets, for tests and for trying out experiments.

The content of a file depends only on its path. Files are written atomically and only if missing, so several processes
can generate a miniature at the same time. The images show nothing real, so that nobody takes their metrics for results.
"""

import io
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from nfbench.core.files import atomic_path
from nfbench.core.provenance import derive_seed
from nfbench.datasets._base import Counts

__all__ = ["COUNTS", "Painter", "make_layout", "save_array", "write_once"]

COUNTS = Counts(train=8, test_normal=4, test_anomalous=12)
"""Numbers of images of each category of a miniature."""


class Painter:
    """Draws and writes images of one size.

    Args:
        root: folder of the miniature; the content of a file depends on its path below it.
        width, height: size in pixels.
        grey: draw one channel instead of three.
    """

    def __init__(self, root: Path, width: int = 72, height: int = 56, grey: bool = False) -> None:
        self.root, self.width, self.height, self.grey = root, width, height, grey

    def normal(self, path: Path) -> None:
        """Writes a textured image."""
        write_once(path, partial(self._save, path, lambda: self.picture(path)))

    def anomalous(self, path: Path, mask: Path | None = None, value: int = 255, blank: bool = False) -> None:
        """Writes an image with a bright rectangle, and a mask with ``value`` there, or all zero if ``blank``."""
        write_once(path, partial(self._save, path, lambda: self.picture(path, self.defect(path))))
        if mask and blank:
            self.blank(mask)
        elif mask:
            write_once(mask, partial(self._save, mask, lambda: value * self.defect(path).astype(np.uint8)))

    def marked(self, mask: Path, value: int) -> None:
        """Writes a mask with ``value`` in a rectangle of its own."""
        write_once(mask, partial(self._save, mask, lambda: value * self.defect(mask).astype(np.uint8)))

    def blank(self, mask: Path) -> None:
        """Writes a mask without a defect."""
        write_once(mask, partial(self._save, mask, lambda: np.zeros((self.height, self.width), np.uint8)))

    def picture(self, path: Path, defect: np.ndarray | None = None) -> np.ndarray:
        """Draws an image, ``(H, W, 3)`` or ``(H, W)`` uint8."""
        rng = self._generator(path)
        shape = (self.height, self.width) if self.grey else (self.height, self.width, 3)
        drawn = rng.integers(70, 140, shape, dtype=np.uint8)
        if defect is not None:
            drawn[defect] = 230
        return drawn

    def defect(self, path: Path) -> np.ndarray:
        """Returns the defect of an anomalous image, ``(H, W)`` bool: a rectangle of about a third of each side."""
        rng = self._generator(path)
        mask = np.zeros((self.height, self.width), dtype=bool)
        top, left = rng.integers(0, self.height // 2), rng.integers(0, self.width // 2)
        mask[top : top + self.height // 3, left : left + self.width // 3] = True
        return mask

    def _generator(self, path: Path) -> np.random.Generator:
        return np.random.default_rng(derive_seed("miniature", path.relative_to(self.root).as_posix()))

    @staticmethod
    def _save(path: Path, draw: Callable[[], np.ndarray], temporary: Path) -> None:
        Image.fromarray(draw()).save(temporary, format=Image.registered_extensions()[path.suffix.lower()])


def write_once(path: Path, write: Callable[[Path], Any]) -> None:
    """Calls ``write`` on a temporary file and renames it to ``path``, unless ``path`` exists."""
    if not path.exists():
        with atomic_path(path) as temporary:
            write(temporary)


def save_array(path: Path, array: np.ndarray) -> None:
    """Writes an array as ``.npy`` unless the file exists."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    write_once(path, lambda temporary: temporary.write_bytes(buffer.getvalue()))


def make_layout(
    painter: Painter,
    category: str,
    *,
    normal: str = "good",
    defects: Sequence[str] = ("bent", "color"),
    ending: str = ".png",
    mask_ending: str = "_mask.png",
    digits: int = 3,
    blank_masks: int = 0,
) -> Counts:
    """Generates one category in MVTec AD's layout.

    Args:
        painter: draws the images.
        category: name of the category.
        normal: name of the folders of normal images.
        defects: defect types, with equal numbers of anomalous images.
        ending: ending of the images.
        mask_ending: ending of the masks, after the stem of their image.
        digits: number of digits in the names of images.
        blank_masks: number of masks of each defect type that mark no pixel.
    """
    folder = painter.root / category
    for split, count in (("train", COUNTS.train), ("test", COUNTS.test_normal)):
        for number in range(count):
            painter.normal(folder / split / normal / f"{number:0{digits}}{ending}")
    for defect in defects:
        for number in range(COUNTS.test_anomalous // len(defects)):
            stem = f"{number:0{digits}}"
            mask = folder / "ground_truth" / defect / f"{stem}{mask_ending}"
            painter.anomalous(folder / "test" / defect / f"{stem}{ending}", mask, blank=number < blank_masks)
    return COUNTS

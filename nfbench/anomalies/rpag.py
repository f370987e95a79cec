"""RPAG: real anomalies, changed at random and pasted on normal images (Yao et al., CVPR 2023, arXiv 2207.01463).

Compared with the description of BGAD's repository at 2806d37. Three of ten operations change an anomalous image and its
mask; what the mask marks is pasted on a normal image, in its foreground, at full resolution and with hard edges; image
and mask are then resized.

Deliberate deviations: the repository uses an old albumentations. Operations that are gone are replaced by the nearest
ones with the old defaults, such as strengths of noise and mirroring at the border, which repeats pieces of anomalies
there. The piecewise affine warp, which now loops over pixels and moves even its fixed points, is replaced by a
thin-plate spline through as many points, moved as far; the shift of the optical distortion is left out. Foreground
masks are computed by ``foreground_mask``, since the repository has them as files without the code that made them. An
anomalous image of another size than the normal one is first resized to it; where a quarter turn then swaps the sides,
it is cropped and padded about its centre. An anomaly that is lost on the way is drawn again.
"""

import os
import random
from collections.abc import Sequence
from functools import cache
from types import ModuleType
from typing import Any

import cv2
import numpy as np
from PIL import Image

from nfbench.anomalies._base import AnomalyGenerator, Synthetic
from nfbench.anomalies._foreground import foreground_mask
from nfbench.core.errors import NfbenchError
from nfbench.core.input_size import Sides
from nfbench.datasets._manifest import Entry, read_checked_image, read_checked_mask

__all__ = ["GENERATOR", "RealAnomalies", "augment", "paste_in_foreground"]

NEEDS_REAL = True
"""Read without importing the module, while experiments are checked."""

N_OPERATIONS = 3
"""Operations that each anomaly goes through, out of ten."""
IN_PLACE_SHARE = 2 / 3
"""A mask stays in place where more than this share of it lies in the foreground."""
_ATTEMPTS = 100


class RealAnomalies(AnomalyGenerator):
    """Variants of a few real anomalies on random normal images; never clean.

    The mask is resized by the nearest pixel, the image by the bilinear filter: pixels just outside of the mask mix
    anomalous and normal ones, as they do in a real anomalous image.
    """

    title = "BGAD's pasted real anomalies"
    needs_real = NEEDS_REAL

    def __init__(self, normals: Sequence[Entry], anomalies: Sequence[Entry], size: Sides) -> None:
        super().__init__(normals, anomalies, size)
        for entry in anomalies:
            if not entry.mask:
                raise NfbenchError(f"{self.title}: {entry.image} has no mask; use anomalies with masks")

    def __call__(self, index: int, seed: int) -> Synthetic:
        """Return a variant of the real anomaly ``index``."""
        rng = self.random(index, seed)
        entry = self.anomalies[index]
        image = read_checked_image(entry)
        mask = read_checked_mask(entry)
        if not mask.any():
            raise NfbenchError(f"{self.title}: mask {entry.mask} marks no pixel; use another anomaly")
        for _ in range(_ATTEMPTS):
            normal = np.array(read_checked_image(self.normals[rng.integers(len(self.normals))]))
            changed = _fit(*augment(*_resize(image, mask, normal.shape[1::-1]), rng), normal.shape[:2])
            pasted, where = paste_in_foreground(normal, *changed, foreground_mask(normal), rng)
            resized = self._to_size(pasted, where)
            if resized.mask.any():
                return resized
        raise NfbenchError(
            f"{self.title}: {entry.image} lost its anomaly in {_ATTEMPTS} attempts: it is too small for images of "
            f"{self.size} pixels; raise 'input_size' or use another anomaly"
        )

    def _to_size(self, image: np.ndarray, mask: np.ndarray) -> Synthetic:
        shape = self.size.width_height
        resized = Image.fromarray(image).resize(shape, Image.Resampling.BILINEAR)
        marked = Image.fromarray(mask.astype(np.uint8) * 255).resize(shape, Image.Resampling.NEAREST)
        return Synthetic(np.array(resized), np.array(marked))


def augment(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Apply three of the ten operations to an image ``(H, W, 3)`` uint8 and its mask ``(H, W)`` bool.

    Returns:
        Image and mask, changed jointly; a quarter turn swaps ``H`` and ``W``.
    """
    library = _albumentations()
    known = _operations(library)
    chosen = rng.choice(len(known), N_OPERATIONS, replace=False)
    operations = library.Compose([known[number] for number in chosen])
    # one shared source: with a 'seed', all operations would draw the same numbers
    operations.set_random_state(np.random.default_rng(rng.integers(2**63)), random.Random(int(rng.integers(2**63))))
    changed = operations(image=image, mask=mask.astype(np.uint8))
    return changed["image"], changed["mask"] > 0


def paste_in_foreground(
    normal: np.ndarray, image: np.ndarray, mask: np.ndarray, foreground: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Copy the marked pixels of an anomalous image to a normal one.

    Where more than two thirds of them lie in the foreground, they stay in place. Otherwise each piece of the mask (what
    lies inside of one outer contour) is moved, so that its centroid lies on a random point of the foreground, which is
    at least half of the largest piece away from the border if there is such a point; what leaves the frame is lost.

    Args:
        normal: ``(H, W, 3)`` uint8.
        image: ``(H, W, 3)`` uint8, anomalous.
        mask: ``(H, W)`` bool, of ``image``.
        foreground: ``(H, W)`` bool, of ``normal``, with at least one True.
        rng: source of randomness.

    Returns:
        The new image, ``(H, W, 3)`` uint8, and its mask, ``(H, W)`` bool.
    """
    pasted, where = normal.copy(), np.zeros_like(mask)
    if (mask & foreground).sum() > IN_PLACE_SHARE * mask.sum():
        pasted[mask] = image[mask]
        return pasted, mask.copy()
    pieces = _pieces(mask)
    extent = max((np.ptp(piece, axis=1) + 1 for piece in pieces), key=max, default=np.zeros(2, dtype=int))
    targets = _points_inside(foreground, extent // 2)
    for piece in pieces:
        target = targets[rng.integers(len(targets))]
        moved = piece + np.rint(target - piece.mean(axis=1)).astype(int)[:, None]
        kept = ((moved >= 0) & (moved < np.array(mask.shape)[:, None])).all(axis=0)
        rows, columns = moved[:, kept]
        pasted[rows, columns] = image[piece[0, kept], piece[1, kept]]
        where[rows, columns] = True
    return pasted, where


def _pieces(mask: np.ndarray) -> list[np.ndarray]:
    """Return the marked pixels inside each outer contour, ``(2, N)`` rows and columns each."""
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    pieces = []
    for contour in contours:
        x, y, width, height = cv2.boundingRect(contour)
        inside = np.zeros((height, width), dtype=np.uint8)
        cv2.drawContours(inside, [contour], -1, 1, cv2.FILLED, offset=(-x, -y))
        rows, columns = np.nonzero(inside & mask[y : y + height, x : x + width])
        pieces.append(np.stack([rows + y, columns + x]))
    return pieces


def _points_inside(foreground: np.ndarray, margins: np.ndarray) -> np.ndarray:
    """Foreground pixels at least ``margins`` (rows, columns) away from the border, ``(N, 2)``; all where none is."""
    inside = np.zeros_like(foreground)
    rows, columns = (slice(margin, side - margin) for margin, side in zip(margins, foreground.shape, strict=True))
    inside[rows, columns] = foreground[rows, columns]
    return np.argwhere(inside if inside.any() else foreground)


def _resize(image: Image.Image, mask: np.ndarray, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Resize image and mask to (width, height)."""
    if image.size != shape:
        image = image.resize(shape, Image.Resampling.BILINEAR)
        mask = np.array(Image.fromarray(mask).resize(shape, Image.Resampling.NEAREST))
    return np.array(image), mask


def _fit(image: np.ndarray, mask: np.ndarray, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Crop and pad image and mask about the centre to (height, width)."""
    if mask.shape == shape:
        return image, mask
    frame, fitted = np.zeros((*shape, 3), dtype=np.uint8), np.zeros(shape, dtype=bool)
    common = [min(old, new) for old, new in zip(mask.shape, shape, strict=True)]
    source, target = (
        tuple(slice((side - part) // 2, (side - part) // 2 + part) for side, part in zip(sides, common, strict=True))
        for sides in (mask.shape, shape)
    )
    frame[target], fitted[target] = image[source], mask[source]
    return frame, fitted


@cache
def _albumentations() -> ModuleType:
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # its import would ask a server for newer versions
    import albumentations

    cv2.setNumThreads(1)  # images are made in parallel, one per core
    return albumentations


def _operations(library: ModuleType) -> list[Any]:
    """Return the ten operations; members of a group are chosen in proportion to their ``p``."""
    mirror = {"border_mode": cv2.BORDER_REFLECT_101}  # of image and mask alike
    both = library.Sequential([library.HorizontalFlip(p=1), library.VerticalFlip(p=1)])
    return [
        library.RandomRotate90(p=0.5),
        library.OneOf([library.HorizontalFlip(), library.VerticalFlip(), both], p=0.5),
        library.Transpose(p=0.5),
        library.OpticalDistortion(distort_limit=1.0, p=1.0, **mirror),
        library.OneOf(
            [
                library.GaussNoise(std_range=(0.01, 0.05), per_channel=False),
                library.GaussNoise(std_range=(0.0124, 0.0277), per_channel=True),
            ],
            p=0.2,
        ),
        library.OneOf(
            [
                library.MotionBlur(blur_limit=(3, 7), p=0.2),
                library.MedianBlur(blur_limit=3, p=0.1),
                library.Blur(blur_limit=3, p=0.1),
            ],
            p=0.2,
        ),
        library.Affine(
            translate_percent=(-0.0625, 0.0625), scale=(0.8, 1.2), keep_ratio=True, rotate=(-45, 45), p=0.2, **mirror
        ),
        library.OneOf(
            [
                library.OpticalDistortion(distort_limit=0.05, p=0.3, **mirror),
                library.GridDistortion(distort_limit=0.3, p=0.1, **mirror),
                library.ThinPlateSpline(scale_range=(0.3, 0.5), p=0.3, **mirror),
            ],
            p=0.2,
        ),
        library.OneOf(
            [
                library.CLAHE(clip_limit=2),
                library.Sharpen(),
                library.Emboss(),
                library.RandomBrightnessContrast(),
            ],
            p=0.3,
        ),
        library.HueSaturationValue(p=0.3),
    ]


GENERATOR = RealAnomalies

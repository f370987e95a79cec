"""The base class of generators of synthetic anomalies, and their shared steps."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import numpy as np
from PIL import Image, ImageEnhance

from nfbench.anomalies._selection import choose_anomalies
from nfbench.config import AnomaliesConfig
from nfbench.core.errors import NfbenchError
from nfbench.core.input_size import InputSize, Sides
from nfbench.core.provenance import derive_seed
from nfbench.core.registry import exported
from nfbench.datasets._manifest import Entry, read_checked_image

__all__ = [
    "AnomalyGenerator",
    "Synthetic",
    "crop_patch",
    "find_generator",
    "jitter_colors",
    "make_generator",
    "random_corner",
    "view_seed",
]

PACKAGE = "nfbench.anomalies"
MIN_SIZE = 32
"""Smallest side of an image, in pixels: below it, the thinnest anomalies would vanish."""


class Synthetic(NamedTuple):
    """An image with a synthetic anomaly.

    Attributes:
        image: ``(H, W, 3)`` uint8.
        mask: ``(H, W)`` uint8: 255 where the image is anomalous, 0 where it is normal, between them on soft edges; 0
            everywhere for a clean image.
    """

    image: np.ndarray
    mask: np.ndarray


class AnomalyGenerator(ABC):
    """Generate anomalous images from normal ones. Calls keep no state, so threads may share a generator.

    Class attributes:
        title: name in tables and figures.
        needs_real: whether the anomalies are made from real ones; its module then has ``NEEDS_REAL = True``.

    Args:
        normals: normal training images of one category.
        anomalies: real anomalies with masks; only generators that need them use them.
        size: height ``H`` and width ``W`` in pixels that images are resized to by Pillow's bilinear filter, or the side
            of a square. Lengths of anomalies are relative to the shorter side, shares to the area.

    Raises:
        NfbenchError: there are no normal images, no anomalies where they are needed, or a side is below 32.
    """

    title: ClassVar[str]
    needs_real: ClassVar[bool] = False

    def __init__(self, normals: Sequence[Entry], anomalies: Sequence[Entry], size: Sides) -> None:
        if not normals:
            raise NfbenchError(f"{self.title}: no normal image to make anomalies from; the split 'train' needs one")
        if self.needs_real and not anomalies:
            folder = normals[0].image
            raise NfbenchError(f"{self.title}: needs real anomalies, got none for {folder}; choose at least one")
        self.size = InputSize.of(size)
        if self.size.shorter < MIN_SIZE:
            raise NfbenchError(f"{self.title}: images of {self.size} pixels are too small; use at least {MIN_SIZE}")
        self.normals = tuple(normals)
        self.anomalies = tuple(anomalies)

    def __len__(self) -> int:
        """Return the number of images that have variants: the normal images, or the real anomalies if needed."""
        return len(self.anomalies if self.needs_real else self.normals)

    @abstractmethod
    def __call__(self, index: int, seed: int) -> Synthetic:
        """Return a variant of one image.

        Args:
            index: number of the image, from 0 to ``len(self) - 1``.
            seed: at least 0. Equal arguments give equal bytes, in any order of calls and in any thread.

        Raises:
            NfbenchError: an image cannot be read, or has changed since the manifest was made.
            IndexError: there is no image ``index``.
        """

    def random(self, index: int, seed: int) -> np.random.Generator:
        """Return the source of all random choices of one call."""
        if not 0 <= index < len(self):
            raise IndexError(f"{self.title}: no image {index} among {len(self)}")
        return np.random.default_rng((index, seed))

    def read_normal(self, index: int) -> Image.Image:
        """Return a normal image, resized to ``size``."""
        return read_checked_image(self.normals[index]).resize(self.size.width_height, Image.Resampling.BILINEAR)


def find_generator(name: str) -> type[AnomalyGenerator]:
    """Return the generator with this name; an error names the nearest one."""
    return exported(PACKAGE, name, "GENERATOR", subclass_of=AnomalyGenerator)


def make_generator(
    config: AnomaliesConfig, entries: Sequence[Entry], seed: int, size: Sides
) -> tuple[AnomalyGenerator, list[Entry]]:
    """Return the generator that a variant configures, on a category's images.

    Args:
        config: names the generator and says how many real anomalies it takes, if any.
        entries: the category's manifest.
        seed: chooses the real anomalies.
        size: height and width that images are resized to, or the side of a square.

    Returns:
        The generator, and all images that it uses.

    Raises:
        NfbenchError: an unknown generator, or images that it cannot work with.
    """
    if config.generator is None:
        raise NfbenchError("these 'anomalies' have no 'generator'")
    generator = find_generator(config.generator)
    normals = [entry for entry in entries if entry.split == "train"]
    real = choose_anomalies(entries, config.real, seed) if generator.needs_real else []
    return generator(normals, real, size), [*normals, *real]


def view_seed(name: str, seed: int, index: int, view: int) -> int:
    """Return the seed of a cached view: variant number ``view`` of image ``index`` by the generator ``name``."""
    return derive_seed(name, seed, index, view)


def random_corner(frame: tuple[int, int], part: tuple[int, int], rng: np.random.Generator) -> tuple[int, int]:
    """Return the upper left corner (x, y) of a random place for a part in a frame; sizes are (width, height).

    The part must not be larger than the frame.
    """
    return int(rng.integers(frame[0] - part[0] + 1)), int(rng.integers(frame[1] - part[1] + 1))


def crop_patch(image: Image.Image, part: tuple[int, int], rng: np.random.Generator) -> Image.Image:
    """Return a part of the given (width, height) from a random place of an image."""
    x, y = random_corner(image.size, part, rng)
    return image.crop((x, y, x + part[0], y + part[1]))


def jitter_colors(image: Image.Image, strength: float, rng: np.random.Generator) -> Image.Image:
    """Change brightness, contrast, saturation and hue at random, in a random order.

    The first three are multiplied by a factor from [1 - strength, 1 + strength]; the hue is shifted by a share of its
    circle from [-strength, strength], at most half of it. This is what torchvision's ``ColorJitter`` does.

    Args:
        image: RGB.
        strength: from 0 (which changes nothing) to 0.5.
        rng: source of randomness.
    """
    if strength == 0:
        return image
    factors = rng.uniform(1 - strength, 1 + strength, 3)
    shift = int(255 * rng.uniform(-strength, strength))  # cut off towards zero, as there
    enhancers = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
    for step in rng.permutation(4):
        image = _shift_hue(image, shift) if step == 3 else enhancers[step](image).enhance(float(factors[step]))
    return image


def _shift_hue(image: Image.Image, shift: int) -> Image.Image:
    hue, saturation, value = image.convert("HSV").split()
    shifted = hue.point([(old + shift) % 256 for old in range(256)])
    return Image.merge("HSV", (shifted, saturation, value)).convert("RGB")

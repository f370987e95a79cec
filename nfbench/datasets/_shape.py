"""Input sizes that keep the shape of the images of a category."""

import math
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

from nfbench.core.errors import NfbenchError
from nfbench.core.input_size import InputSize
from nfbench.datasets._base import Dataset
from nfbench.datasets._manifest import read_checked_image, unlisted

__all__ = ["Shape", "input_size_for", "shape_of"]

_IMAGES = 20


class Shape(NamedTuple):
    """Sizes of some training images of a category.

    Attributes:
        sizes: heights and widths in pixels, upright.
        ratio: median of height divided by width.
    """

    sizes: Sequence[InputSize]
    ratio: float


def shape_of(dataset: Dataset, root: Path, category: str) -> Shape:
    """Measure at most 20 evenly spaced training images of a category.

    Raises:
        NfbenchError: the category has no training image, or an image cannot be read.
    """
    paths = [sample.image for sample in dataset.samples(root, category) if sample.split == "train"]
    if not paths:
        raise NfbenchError(f"category '{category}' in {root} has no training image")
    chosen = paths[:: -(-len(paths) // _IMAGES)]
    upright = (read_checked_image(unlisted(Path(path))) for path in chosen)
    sizes = [InputSize(image.height, image.width) for image in upright]
    return Shape(sizes, median(size.height / size.width for size in sizes))


def input_size_for(ratio: float, side: int, multiple: int) -> InputSize:
    """Return the size with this ratio of height to width and about the area of a square.

    Args:
        ratio: height divided by width.
        side: side of the square, in pixels.
        multiple: number that divides both sides of the result.
    """
    exact = side * math.sqrt(ratio), side / math.sqrt(ratio)
    height, width = (max(multiple, round(length / multiple) * multiple) for length in exact)
    return InputSize(height, width)

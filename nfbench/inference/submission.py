"""Maps and masks of the private test images of MVTec AD 2, for its server.

A pixel of a map is ``(score - mean) / std``, with mean and standard deviation over all pixels of normal images that the
model was not fitted to. This keeps the order of scores and the relative precision of float16, which has no value above
65,504 and collapses raw likelihoods of several thousand into ties. A pixel is marked if its unrounded score is more
than ``sigmas`` standard deviations above the mean; the benchmark's paper suggests 3.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from nfbench.core.errors import NfbenchError
from nfbench.core.files import atomic_path
from nfbench.core.input_size import Sides
from nfbench.datasets._manifest import Entry, read_checked_image
from nfbench.datasets._submission import MAPS, MASKS, Sizes, encode_tiff
from nfbench.features.forward import to_size
from nfbench.scoring.maps import resize_map

if TYPE_CHECKING:
    from nfbench.inference.model import TrainedModel

__all__ = ["write_category"]

_BATCH = 8


def write_category(
    model: "TrainedModel", category: str, images: Sequence[Entry], folder: Path, sigmas: float = 3.0
) -> Sizes:
    """Scores the private images of a category and writes their maps and masks.

    Args:
        model: model of the category.
        category: its name in the submission.
        images: unlabelled entries of its manifest.
        folder: folder of the submission.
        sigmas: standard deviations above the mean from which a pixel is marked.

    Returns:
        Height and width of each written file.

    Raises:
        NfbenchError: the method has no maps, its normal images do not vary, or an image has changed.
    """
    pixels = model.thresholds.pixels
    if pixels is None:
        raise NfbenchError(f"method '{model.method.title}' has no maps, which a submission needs")
    if pixels.std == 0:
        raise NfbenchError(f"{model.title}: all pixels of normal images have the same score; nothing can be submitted")
    sizes: Sizes = {}
    for entry, score_map in _maps(model, images):
        standard = (resize_map(score_map, entry.height, entry.width).astype(np.float64) - pixels.mean) / pixels.std
        stem = f"{category}/{entry.defect}/{Path(entry.image).stem}"
        _write(folder / MAPS / f"{stem}.tiff", encode_tiff(standard))
        mask = folder / MASKS / f"{stem}.png"
        with atomic_path(mask) as temporary:
            Image.fromarray(np.where(standard > sigmas, 255, 0).astype(np.uint8)).save(temporary)
        sizes |= dict.fromkeys((f"{MAPS}/{stem}.tiff", f"{MASKS}/{stem}.png"), (entry.height, entry.width))
    return sizes


def _maps(model: "TrainedModel", images: Sequence[Entry]) -> Iterator[tuple[Entry, np.ndarray]]:
    """Yields the map of each image at the resolution of the method."""
    with ThreadPoolExecutor(2) as pool:
        for start in range(0, len(images), _BATCH):
            batch = images[start : start + _BATCH]
            squares = list(pool.map(lambda entry: _input(entry, model.size), batch))
            maps = model.locate(squares, nfa=False).maps
            if maps is None:
                raise NfbenchError(f"method '{model.method.title}' has no maps, which a submission needs")
            yield from zip(batch, maps, strict=True)


def _input(entry: Entry, size: Sides | None) -> Image.Image:
    image = read_checked_image(entry)
    return image if size is None else to_size(image, size)


def _write(path: Path, content: bytes) -> None:
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)

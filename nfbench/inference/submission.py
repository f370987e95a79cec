"""The folder that the server of MVTec AD 2 evaluates: maps and masks of the private test images.

anomaly_images/<category>/test_private/000_regular.tiff              float16, one channel, the size of the image
anomaly_images/<category>/test_private_mixed/000_mixed.tiff
anomaly_images_thresholded/<category>/test_private/000_regular.png   0 and 255
anomaly_images_thresholded/<category>/test_private_mixed/000_mixed.png

A pixel of a map is ``(score - mean) / std``, with mean and standard deviation over all pixels of normal images that the
model was not fitted to. This keeps the order of scores and the relative precision of float16, which has no value above
65,504 and collapses raw likelihoods of several thousand into ties. A pixel is marked if its unrounded score is more
than ``sigmas`` standard deviations above the mean; the benchmark's paper suggests 3.
"""

import re
import struct
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from nfbench.core.errors import NfbenchError
from nfbench.core.files import atomic_path
from nfbench.datasets._listing import files_below
from nfbench.datasets._manifest import Entry, read_checked_image
from nfbench.datasets.mvtec_ad_2 import PRIVATE
from nfbench.features.forward import to_square
from nfbench.scoring.maps import resize_map

if TYPE_CHECKING:
    from nfbench.inference.model import TrainedModel

__all__ = ["MAPS", "MASKS", "Sizes", "check_images", "check_submission", "encode_tiff", "write_category"]

MAPS, MASKS = "anomaly_images", "anomaly_images_thresholded"
Sizes = dict[str, tuple[int, int]]
"""Height and width of the files of a submission, by path below its folder."""

_NAMES = {"test_private": re.compile(r"\d{3}_regular"), "test_private_mixed": re.compile(r"\d{3}_mixed")}
_LARGEST = float(np.finfo(np.float16).max)
_SHORT, _LONG = 3, 4
_BATCH = 8
_IFD = struct.Struct("<HHII")


def check_images(category: str, images: Sequence[Entry], expected: int) -> None:
    """Checks names and number of the private images of a category.

    Raises:
        NfbenchError: a name is not the server's, or a set does not have ``expected`` images.
    """
    for entry in images:
        stem = Path(entry.image).stem
        if not _NAMES[entry.defect].fullmatch(stem):
            raise NfbenchError(f"{entry.image}: the server expects names such as 000_{_light(entry.defect)}.png")
    found = Counter(entry.defect for entry in images)
    for name in PRIVATE:
        if found[name] != expected:
            raise NfbenchError(f"{category} has {found[name]} images in {name}, the server expects {expected}")


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
            squares = list(pool.map(lambda entry: to_square(read_checked_image(entry), model.side), batch))
            maps = model.locate(squares, nfa=False).maps
            if maps is None:
                raise NfbenchError(f"method '{model.method.title}' has no maps, which a submission needs")
            yield from zip(batch, maps, strict=True)


def encode_tiff(values: np.ndarray) -> bytes:
    """Encodes ``(H, W)`` finite numbers as a TIFF file of float16 without compression.

    Values beyond the range of float16 become its largest value. Pillow and OpenCV cannot write float16.
    """
    height, width = values.shape
    data = np.clip(values, -_LARGEST, _LARGEST).astype("<f2").tobytes()
    tags = {
        256: (_LONG, width), 257: (_LONG, height), 258: (_SHORT, 16), 259: (_SHORT, 1), 262: (_SHORT, 1),
        273: (_LONG, 8), 277: (_SHORT, 1), 278: (_LONG, height), 279: (_LONG, len(data)), 339: (_SHORT, 3),
    }  # fmt: skip
    entries = b"".join(_IFD.pack(tag, kind, 1, value) for tag, (kind, value) in tags.items())
    return struct.pack("<2sHI", b"II", 42, 8 + len(data)) + data + struct.pack("<H", len(tags)) + entries + bytes(4)


def check_submission(folder: Path, expected: Mapping[str, tuple[int, int]]) -> None:
    """Checks that a folder has exactly the expected files, in the server's formats and of the right sizes.

    Args:
        folder: folder of the submission.
        expected: height and width of each file.

    Raises:
        NfbenchError: a file is missing, unexpected, or of another format or size; names the first one.
    """
    found = {path.relative_to(folder).as_posix() for path in files_below(folder)}
    if missing := sorted(expected.keys() - found):
        raise NfbenchError(f"submission {folder} is incomplete: {len(missing)} files are missing, first {missing[0]}")
    if unknown := sorted(found - expected.keys()):
        raise NfbenchError(f"submission {folder} has files that the server does not take, first {unknown[0]}")
    for name, size in expected.items():
        path = folder / name
        wrong = _tiff_fault(path, size) if path.suffix == ".tiff" else _png_fault(path, size)
        if wrong:
            raise NfbenchError(f"{path} {wrong}")


def _tiff_fault(path: Path, size: tuple[int, int]) -> str:
    """Compares a file with the header that ``encode_tiff`` writes; empty if it matches."""
    expected = encode_tiff(np.zeros(size, np.float16))
    start = 8 + 2 * size[0] * size[1]
    content = path.read_bytes()
    if len(content) != len(expected) or content[:8] != expected[:8] or content[start:] != expected[start:]:
        return f"is not a float16 TIFF of {size[1]} x {size[0]} pixels"
    if not np.isfinite(np.frombuffer(content, "<f2", size[0] * size[1], 8)).all():
        return "has values that are not finite"
    return ""


def _png_fault(path: Path, size: tuple[int, int]) -> str:
    """Describes what is wrong with a mask; empty if nothing is."""
    try:
        with Image.open(path, formats=["PNG"]) as picture:
            mode, values = picture.mode, np.asarray(picture)
    except (OSError, SyntaxError) as error:
        return f"is not a readable PNG file: {error}"
    if mode != "L" or values.shape != size:
        return f"is {mode} of {values.shape[1]} x {values.shape[0]} pixels, expected grey of {size[1]} x {size[0]}"
    return "" if np.isin(values, (0, 255)).all() else "has values other than 0 and 255"


def _light(name: str) -> str:
    return "mixed" if name == "test_private_mixed" else "regular"


def _write(path: Path, content: bytes) -> None:
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)

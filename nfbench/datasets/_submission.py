"""The format of submissions to the server of MVTec AD 2.

anomaly_images/<category>/test_private/000_regular.tiff              float16, one channel, the size of the image
anomaly_images/<category>/test_private_mixed/000_mixed.tiff
anomaly_images_thresholded/<category>/test_private/000_regular.png   0 and 255
anomaly_images_thresholded/<category>/test_private_mixed/000_mixed.png
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from nfbench.core.errors import NfbenchError, one_line
from nfbench.datasets._images import open_picture
from nfbench.datasets._listing import files_below
from nfbench.datasets._manifest import Entry
from nfbench.datasets.mvtec_ad_2 import PRIVATE

if TYPE_CHECKING:
    import numpy as np

__all__ = ["MAPS", "MASKS", "Sizes", "check_images", "check_submission", "encode_tiff"]

MAPS, MASKS = "anomaly_images", "anomaly_images_thresholded"
Sizes = dict[str, tuple[int, int]]
"""Height and width of the files of a submission, by path below its folder."""

_LIGHTS = {"test_private": "regular", "test_private_mixed": "mixed"}
_LARGEST = 65504.0
_PNG = b"\x89PNG\r\n\x1a\n"


def check_images(category: str, images: Sequence[Entry], expected: int) -> None:
    """Checks names and number of the private images of a category.

    Raises:
        NfbenchError: a name is not the server's, or a set does not have ``expected`` images.
    """
    for entry in images:
        light = _LIGHTS[entry.defect]
        if not re.fullmatch(rf"\d{{3}}_{light}", Path(entry.image).stem):
            raise NfbenchError(f"{entry.image}: the server expects names such as 000_{light}.png")
    found = Counter(entry.defect for entry in images)
    for name in PRIVATE:
        if found[name] != expected:
            raise NfbenchError(f"{category} has {found[name]} images in {name}, the server expects {expected}")


def encode_tiff(values: "np.ndarray") -> bytes:
    """Encodes ``(H, W)`` finite numbers as a TIFF file of float16 without compression.

    Values beyond the range of float16 become its largest value.
    """
    import numpy as np
    import tifffile

    file = BytesIO()
    tifffile.imwrite(file, np.clip(values, -_LARGEST, _LARGEST).astype(np.float16), metadata=None)
    return file.getvalue()


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
    """Describes what is wrong with a map; empty if nothing is."""
    import numpy as np
    import tifffile

    try:
        values = tifffile.imread(path)
    except (ValueError, OSError) as error:  # tifffile's own errors are ValueErrors
        return f"is not a readable TIFF file: {one_line(error)}"
    if values.shape != size or values.dtype != np.float16:
        there = " x ".join(map(str, values.shape[::-1]))
        return f"is {values.dtype} of {there} pixels, expected float16 of {size[1]} x {size[0]}"
    return "" if np.isfinite(values).all() else "has values that are not finite"


def _png_fault(path: Path, size: tuple[int, int]) -> str:
    """Describes what is wrong with a mask; empty if nothing is."""
    import numpy as np

    try:
        picture = open_picture(path, "mask").picture
    except NfbenchError as error:
        return f"is not a readable PNG file: {error}"
    if not path.read_bytes().startswith(_PNG):
        return "is not a readable PNG file: it has another format"
    values = np.asarray(picture)
    if picture.mode != "L" or values.shape != size:
        there = f"{values.shape[1]} x {values.shape[0]} pixels"
        return f"is {picture.mode} of {there}, expected grey of {size[1]} x {size[0]}"
    return "" if np.isin(values, (0, 255)).all() else "has values other than 0 and 255"

"""Manifests: the images of one category with their hashes, checked once, read by every later stage."""

import csv
import io
import logging
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nfbench.config import DatasetConfig
from nfbench.core.errors import NfbenchError
from nfbench.core.files import write_text
from nfbench.core.progress import progress
from nfbench.core.provenance import derive_seed, file_sha256
from nfbench.core.seals import verified
from nfbench.datasets.base import Sample

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

__all__ = [
    "Entry",
    "build_manifest",
    "decode_image",
    "read_checked_image",
    "read_checked_mask",
    "read_image",
    "read_manifest",
    "read_mask",
    "select_subset",
    "write_manifest",
]

_log = logging.getLogger(__name__)
_COLUMNS = ("split", "label", "defect", "image", "mask", "height", "width", "sha256", "mask_sha256")


@dataclass(frozen=True)
class Entry:
    """One row of a manifest.

    Attributes:
        split: ``train`` or ``test``.
        label: 0 for normal, 1 for anomalous.
        defect: kind of defect, ``good`` for none.
        image: path of the image.
        mask: path of the mask, empty where there is none.
        height, width: size of the image in pixels.
        sha256: hash of the image's file.
        mask_sha256: hash of the mask's file, empty where there is none.
    """

    split: str
    label: int
    defect: str
    image: str
    mask: str
    height: int
    width: int
    sha256: str
    mask_sha256: str


def build_manifest(samples: Sequence[Sample]) -> list[Entry]:
    """Decodes and hashes every image and mask.

    Raises:
        NfbenchError: a file does not decode, a mask has another size than its image, or a split is empty.
    """
    for split in ("train", "test"):
        if not any(sample.split == split for sample in samples):
            raise NfbenchError(f"the split '{split}' is empty")
    with ThreadPoolExecutor() as pool:
        return list(progress(pool.map(_entry, samples), total=len(samples), label="check images"))


def select_subset(samples: Sequence[Sample], config: DatasetConfig) -> list[Sample]:
    """The stated number of images of each kind, chosen by a hash of their names, so that it is always the same."""
    limits = {
        ("train", False): config.max_train,
        ("test", False): config.max_test_normal,
        ("test", True): config.max_test_anomalous,
    }
    chosen: list[Sample] = []
    for (split, anomalous), limit in limits.items():
        kind = [sample for sample in samples if (sample.split, sample.anomalous) == (split, anomalous)]
        by_hash = sorted(kind, key=lambda sample: derive_seed("subset", sample.defect, sample.image.name))
        chosen += sorted(by_hash[:limit], key=lambda sample: str(sample.image))
    return chosen


def read_image(path: str | Path) -> "Image.Image":
    """Decodes an image to RGB; grey images get three equal channels.

    Raises:
        NfbenchError: the file is missing, cut short, or no image.
    """
    return decode_image(path).convert("RGB")


def read_mask(path: str | Path) -> "np.ndarray":
    """Decodes a mask to ``(H, W)`` bool: True where the value is above 0, whatever classes the values stand for."""
    import numpy as np

    mask = np.asarray(decode_image(path))
    return mask.reshape(*mask.shape[:2], -1).max(axis=-1) > 0


def read_checked_image(entry: Entry) -> "Image.Image":
    """The image of an entry, as ``read_image`` decodes it.

    Raises:
        NfbenchError: the image cannot be read, or has changed since the manifest was made.
    """
    image = read_image(entry.image)
    _check_unchanged("image", entry.image, entry.sha256)
    return image


def read_checked_mask(entry: Entry) -> "np.ndarray":
    """The mask of an entry that has one, ``(H, W)`` bool, as ``read_mask`` decodes it.

    Raises:
        NfbenchError: the mask cannot be read, or has changed since the manifest was made.
    """
    mask = read_mask(entry.mask)
    _check_unchanged("mask", entry.mask, entry.mask_sha256)
    return mask


def write_manifest(path: str | Path, entries: Iterable[Entry]) -> None:
    """Writes a manifest atomically."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(vars(entry) for entry in entries)
    write_text(path, buffer.getvalue())


def read_manifest(path: str | Path) -> list[Entry]:
    """Reads a manifest, and holds it against the record next to it, if there is one.

    Raises:
        NfbenchError: the file is missing, damaged, has other columns, or has changed since it was written.
    """
    try:
        with open(path, newline="") as file:
            reader = csv.DictReader(file)
            columns, rows = tuple(reader.fieldnames or ()), list(reader)
    except FileNotFoundError:
        raise NfbenchError(f"manifest {path} is missing; make it with 'nfbench prepare_data'") from None
    except (csv.Error, UnicodeDecodeError) as error:
        raise NfbenchError(f"manifest {path} is damaged ({error}); remove it and run again") from None
    if (record := Path(path).with_suffix(".json")).is_file():
        verified(path, record)
    if columns != _COLUMNS:
        raise NfbenchError(f"manifest {path} has columns {list(columns)}, expected {list(_COLUMNS)}; make it again")
    try:
        return [_parse(row) for row in rows]
    except ValueError:
        raise NfbenchError(f"manifest {path} has a damaged line; remove it and run again") from None


def _parse(row: dict[str, str]) -> Entry:
    if None in row or None in row.values():  # as DictReader marks a value too many, or one too few
        raise ValueError
    return Entry(**{**row, **{name: int(row[name]) for name in ("label", "height", "width")}})


def _entry(sample: Sample) -> Entry:
    width, height = decode_image(sample.image).size
    mask_hash = ""
    if sample.mask is not None:
        mask = read_mask(sample.mask)
        if mask.shape != (height, width):
            raise NfbenchError(
                f"mask {sample.mask} is {mask.shape[1]} x {mask.shape[0]} pixels, its image {sample.image} is "
                f"{width} x {height}"
            )
        if not mask.any():
            _log.warning("mask %s marks no pixel", sample.mask)
        mask_hash = file_sha256(sample.mask)
    return Entry(
        split=sample.split,
        label=int(sample.anomalous),
        defect=sample.defect,
        image=str(sample.image),
        mask=str(sample.mask or ""),
        height=height,
        width=width,
        sha256=file_sha256(sample.image),
        mask_sha256=mask_hash,
    )


def _check_unchanged(kind: str, path: str, sha256: str) -> None:
    if file_sha256(path) != sha256:
        raise NfbenchError(f"{kind} {path} has changed since the manifest was made; run prepare_data again")


def decode_image(path: str | Path) -> "Image.Image":
    """Decodes a file, as it is.

    Raises:
        NfbenchError: the file is missing, cut short, or no image.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            image.load()
            return image
    except FileNotFoundError:
        raise NfbenchError(f"image {path} is missing") from None
    except (OSError, SyntaxError, ValueError) as error:  # PIL raises all three for damaged files
        raise NfbenchError(f"image {path} cannot be decoded: {error}") from None

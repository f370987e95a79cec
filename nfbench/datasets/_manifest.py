"""Manifests: the images of one category with their hashes, which all later stages read."""

import csv
import io
import logging
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nfbench.config import DatasetConfig, shift_of_view
from nfbench.core.errors import NfbenchError
from nfbench.core.files import write_text
from nfbench.core.progress import progress
from nfbench.core.provenance import derive_seed
from nfbench.core.seals import verified
from nfbench.datasets._base import Sample
from nfbench.datasets._channels import open_mask
from nfbench.datasets._images import MANY_VALUES, open_picture, read_image, read_mask
from nfbench.datasets._rows import read_table
from nfbench.datasets._shift import shift_image, shift_mask

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

__all__ = [
    "Entry",
    "build_manifest",
    "mask_fault",
    "read_checked_image",
    "read_checked_mask",
    "read_image",
    "read_manifest",
    "read_mask",
    "select_subset",
    "unlisted",
    "view_entries",
    "write_manifest",
]

_log = logging.getLogger(__name__)
_COLUMNS = ("split", "label", "defect", "image", "mask", "height", "width", "sha256", "mask_sha256")


@dataclass(frozen=True)
class Entry:
    """One row of a manifest.

    Attributes:
        split: ``train``, ``validation``, ``test`` or ``unlabelled``.
        label: 0 for normal, 1 for anomalous, -1 for unlabelled.
        defect: defect type; ``good`` for none; for unlabelled images the name of their set.
        image: path of the image.
        mask: path of the mask, or of the folder of its channels; empty if there is none.
        height, width: size of the image in pixels.
        sha256: hash of the image file.
        mask_sha256: hash of the mask; empty if there is none.
        shift: name of the shift that image and mask are read with; not part of the manifest.
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
    shift: str = ""


def build_manifest(samples: Sequence[Sample], splits: Sequence[str] = ("train", "test")) -> list[Entry]:
    """Decodes and hashes every image and mask.

    Args:
        samples: samples of the category.
        splits: splits that must not be empty.

    Raises:
        NfbenchError: a file cannot be decoded, a mask and its image differ in size, or a split is empty.
    """
    for split in splits:
        if not any(sample.split == split for sample in samples):
            raise NfbenchError(f"the split '{split}' is empty")
    shaded: list[str] = []
    with ThreadPoolExecutor() as pool:
        found = pool.map(partial(_entry, shaded=shaded), samples)
        entries = list(progress(found, total=len(samples), label="check images"))
    if shaded:
        what = "%d masks, such as %s, have more than %d distinct values; all values above 0 count as defective"
        _log.warning(what, len(shaded), min(shaded), MANY_VALUES)
    return entries


def view_entries(entries: Iterable[Entry], view: str) -> list[Entry]:
    """Returns the images of a view in the order of its features; ``train``: training, then validation images.

    Unlabelled images are in no view of an experiment. Images of a view such as ``test-blur2`` are shifted when they are
    read.
    """
    shift = shift_of_view(view)
    splits = ("train", "validation") if view == "train" else ("test" if shift else view,)
    found = [replace(entry, shift=shift) if shift else entry for entry in entries if entry.split in splits]
    return sorted(found, key=lambda entry: entry.split == "validation")


def unlisted(path: Path) -> Entry:
    """Returns an entry for an image without a manifest; it has no hash to verify."""
    return Entry("test", 0, "", str(path), "", 0, 0, "", "")


def select_subset(samples: Sequence[Sample], config: DatasetConfig) -> list[Sample]:
    """Selects the configured number of images of each kind by a hash of their names, so always the same.

    Keeps all validation and unlabelled images.
    """
    limits = {
        ("train", False): config.max_train,
        ("validation", False): None,
        ("test", False): config.max_test_normal,
        ("test", True): config.max_test_anomalous,
        ("unlabelled", False): None,
    }
    chosen: list[Sample] = []
    for (split, anomalous), limit in limits.items():
        kind = [sample for sample in samples if (sample.split, sample.anomalous) == (split, anomalous)]
        by_hash = sorted(kind, key=lambda sample: derive_seed("subset", sample.defect, sample.image.name))
        chosen += sorted(by_hash[:limit], key=lambda sample: str(sample.image))
    return chosen


def read_checked_image(entry: Entry) -> "Image.Image":
    """Reads the image of an entry with ``read_image``, and shifts it as the entry says.

    Raises:
        NfbenchError: the image cannot be read, or has changed since the manifest was written.
    """
    return shift_image(read_image(entry.image, entry.sha256), entry.shift, entry.sha256)


def read_checked_mask(entry: Entry) -> "np.ndarray":
    """Reads the mask of an entry that has one with ``open_mask``, shifted like its image: ``(H, W)`` bool.

    Raises:
        NfbenchError: the mask cannot be read, or has changed since the manifest was written.
    """
    return shift_mask(open_mask(entry.mask, entry.mask_sha256).mask, entry.shift, entry.sha256)


def write_manifest(path: str | Path, entries: Iterable[Entry]) -> None:
    """Writes a manifest atomically."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: getattr(entry, name) for name in _COLUMNS} for entry in entries)
    write_text(path, buffer.getvalue())


def read_manifest(path: str | Path) -> list[Entry]:
    """Reads a manifest and verifies it against the record next to it, if there is one.

    Raises:
        NfbenchError: the file is missing, has other columns or an invalid value, or has changed since it was written;
            the message names it.
    """
    if not Path(path).exists():
        raise NfbenchError(f"manifest {path} is missing; create it with 'nfbench prepare_data'")
    repair = "create it again with 'nfbench prepare_data'"
    rows = read_table(path, _COLUMNS, repair)
    try:
        if (record := Path(path).with_suffix(".json")).is_file():
            verified(path, record)
        entries = [
            Entry(**_texts(row), label=int(row["label"]), height=int(row["height"]), width=int(row["width"]))
            for row in rows
        ]
    except ValueError as error:
        raise NfbenchError(f"manifest {path}: {error}; {repair}") from None
    for entry in entries:
        if not entry.sha256 or bool(entry.mask) != bool(entry.mask_sha256):
            raise NfbenchError(f"manifest {path}: {entry.image} or its mask has no hash; {repair}")
    return entries


def _texts(row: Mapping[str, str]) -> dict[str, Any]:
    """Returns the values of a row that are not numbers."""
    return {name: value for name, value in row.items() if name not in ("label", "height", "width")}


def mask_fault(mask: Path, shape: tuple[int, ...], size: tuple[int, int], image: str = "its image") -> str:
    """Compares a mask's shape ``(H, W)`` with its image's ``(width, height)``; empty if they match."""
    (height, width), (image_width, image_height) = shape, size
    if (width, height) == size:
        return ""
    upright = " once both are upright" if (height, width) == size else ""
    return f"mask {mask} is {width} x {height} pixels, {image} is {image_width} x {image_height}{upright}"


def _entry(sample: Sample, shaded: list[str]) -> Entry:
    """Builds the row of a sample; appends its mask to ``shaded`` if the mask has many distinct values."""
    image, mask_hash = open_picture(sample.image), ""
    image.to_image()
    width, height = image.size
    if sample.mask is not None:
        stored = open_mask(sample.mask)
        mask, mask_hash = stored.mask, stored.sha256
        if wrong := mask_fault(sample.mask, mask.shape, image.size, f"its image {sample.image}"):
            raise NfbenchError(wrong)
        if not mask.any():
            _log.warning("mask %s marks no pixel", sample.mask)
        if stored.is_shaded:
            shaded.append(str(sample.mask))
    return Entry(
        split=sample.split,
        label=-1 if sample.split == "unlabelled" else int(sample.anomalous),
        defect=sample.defect,
        image=str(sample.image),
        mask=str(sample.mask or ""),
        height=height,
        width=width,
        sha256=image.sha256,
        mask_sha256=mask_hash,
    )

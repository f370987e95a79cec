"""Masks that are one file, or a folder with one file per defect, such as those of MVTec LOCO.

A defect's file is one channel: it has one value above 0, the kind of the defect in the category's
``defects_config.json``. Channels of one image may overlap. The mask of the image is their union.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pydantic import Field, TypeAdapter, ValidationError

from nfbench.config.validation import Model
from nfbench.core.errors import NfbenchError
from nfbench.datasets._images import StoredPicture, open_picture
from nfbench.datasets._listing import list_images

if TYPE_CHECKING:
    import numpy as np

__all__ = [
    "DEFECTS",
    "Channel",
    "DefectKind",
    "StoredMask",
    "defects_file",
    "has_channels",
    "mask_files",
    "open_mask",
    "read_channels",
    "read_defects",
]

DEFECTS = "defects_config.json"
"""Name of the file with the kinds of defects in the folder of a category."""


class DefectKind(Model):
    """How much of a kind of defect must be found, as sPRO counts it.

    A defect counts as found completely once its saturation area is found: ``saturation_threshold`` pixels, at most all
    of them; if ``relative_saturation``, this share of its pixels.
    """

    defect_name: str = Field(description="name of the kind")
    pixel_value: int = Field(ge=1, le=255, description="value in masks")
    saturation_threshold: float = Field(gt=0, description="pixels of the original image, or a share of the defect")
    relative_saturation: bool = Field(description="whether the threshold is a share")


class Channel(NamedTuple):
    """One defect of an image.

    Attributes:
        value: its value in the file, which names its kind.
        mask: its pixels ``(H, W)`` bool.
    """

    value: int
    mask: "np.ndarray"


class StoredMask(NamedTuple):
    """The mask of an image with its storage.

    Attributes:
        mask: defective pixels ``(H, W)`` bool; the union of all channels.
        sha256: hash of the file; for a folder, of the names and hashes of its files.
        pictures: the decoded files.
    """

    mask: "np.ndarray"
    sha256: str
    pictures: tuple[StoredPicture, ...]

    @property
    def is_shaded(self) -> bool:
        """Whether a file has more values than class numbers would have."""
        return any(picture.is_shaded for picture in self.pictures)


def has_channels(mask: str | Path) -> bool:
    """Whether a mask is a folder with one file per defect, of a category with kinds of defects."""
    return bool(mask) and Path(mask).is_dir() and defects_file(mask).is_file()


def defects_file(mask: str | Path) -> Path:
    """Returns the path of the kinds of defects of a mask's category."""
    return Path(mask).parents[2] / DEFECTS


def mask_files(mask: Path) -> list[Path]:
    """Lists the files of a mask, sorted: itself, or the images in its folder.

    Raises:
        NfbenchError: the folder has no image.
    """
    return list_images(mask) if mask.is_dir() else [mask]


def open_mask(path: str | Path, sha256: str = "") -> StoredMask:
    """Decodes a mask.

    Args:
        path: its file, or its folder of channels.
        sha256: hash that it must have; empty to accept any.

    Raises:
        NfbenchError: a file is missing, has changed or cannot be decoded, or channels differ in size.
    """
    path = Path(path)
    if not path.is_dir():
        picture = open_picture(path, "mask", sha256)
        return StoredMask(picture.to_mask(), picture.sha256, (picture,))
    pictures = [open_picture(file, "mask") for file in list_images(path)]
    found = _hash(path, pictures)
    if sha256 and found != sha256:
        raise NfbenchError(f"mask {path} has changed since the manifest was written; run prepare_data again")
    union = pictures[0].to_mask()
    for picture in pictures[1:]:
        if picture.size != pictures[0].size:
            raise NfbenchError(f"mask {picture.path} and {pictures[0].path} differ in size, but are of one image")
        union = union | picture.to_mask()
    return StoredMask(union, found, tuple(pictures))


def read_channels(path: str | Path, sha256: str = "") -> list[Channel]:
    """Reads the defects of an image one by one; takes the arguments of ``open_mask``.

    Raises:
        NfbenchError: as ``open_mask``, or a file does not have exactly one grey value above 0.
    """
    import numpy as np

    channels = []
    for picture in open_mask(path, sha256).pictures:
        values = np.unique(np.asarray(picture.picture))
        positive = values[values > 0]
        if picture.picture.mode != "L" or len(positive) != 1:
            raise NfbenchError(f"mask {picture.path} ({picture.stored}) must be grey with exactly one value above 0")
        channels.append(Channel(int(positive[0]), picture.to_mask()))
    return channels


def read_defects(path: Path) -> dict[int, DefectKind]:
    """Reads the kinds of defects of a category by their value in masks.

    Args:
        path: the ``defects_config.json`` of the category.

    Raises:
        NfbenchError: the file is missing or not a list of kinds, or two kinds have one value.
    """
    try:
        kinds = TypeAdapter(list[DefectKind]).validate_python(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise NfbenchError(f"{path} is missing; it says how much of each defect must be found") from None
    except (ValidationError, ValueError, OSError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": str(error)}
        where = ".".join(map(str, first["loc"]))
        raise NfbenchError(f"{path}{f', {where}' if where else ''}: {first['msg']}") from None
    by_value = {kind.pixel_value: kind for kind in kinds}
    if len(by_value) < len(kinds):
        raise NfbenchError(f"{path}: two kinds of defects have the same 'pixel_value'")
    return by_value


def _hash(folder: Path, pictures: Sequence[StoredPicture]) -> str:
    parts = [f"{Path(picture.path).relative_to(folder)} {picture.sha256}" for picture in pictures]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()

"""Decoding of images and masks: formats, modes, orientation, and what a mask marks.

A file is read once, so its hash and its pixels come from the same bytes. The content must be PNG, JPEG (the first of
several frames), BMP, TIFF or WebP, with any file ending; no other decoder is tried. Other files of several pages or
frames are refused. Images are rotated upright according to their EXIF orientation. These storage formats are supported;
all others are refused by name:

================================  ====================================  ==============================================
stored as                         an image becomes                      a mask marks
================================  ====================================  ==============================================
1 bit; grey of 2, 4, 8 bits       three equal channels                  values above 0, also class numbers 1, 2, ...
RGB of 8 bits                     itself                                pixels with a channel above 0
palette                           the colours that it shows             pixels whose shown colour is above 0
alpha channel, transparent        composited over black                 pixels whose composited colour is above 0
grey of 16 bits                   the high byte, as three channels      values above 0
colour of 16 bits                 the high byte of each channel         refused
grey floats of 32 bits, 0 to 1    255 times the value, rounded half to  values above 0, if all are whole
                                  even, as three channels
other floats of 32 bits           refused                               values above 0, if all are whole and none below
whole numbers of 32 bits          refused                               values above 0, if none is below
CMYK, YCbCr, LAB, more channels   refused                               refused
floats of other sizes or colours  refused                               refused
================================  ====================================  ==============================================

The high byte is exact for 8-bit images that are stored in 16 bits, as ``257 v`` or ``256 v``. If no value reaches
2^14, the image comes from a 10-, 12- or 14-bit camera and would become almost black; it is refused. Masks in lossy
files (JPEG, WebP, TIFF with JPEG inside) mark values above 127. Refused are also lossy masks that are neither black nor
that bright; masks that show only black although their palette numbers or alpha values differ, since the drawing is
invisible; and masks with several colours but no black, since the normal region is unknown.

No rule depends on the range of an image, which would make scores incomparable. Colour profiles (ICC) and gamma are not
applied: values are used as stored, as the published networks and benchmarks do.
"""

import hashlib
import io
import os
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nfbench.core.errors import NfbenchError, one_line, valid_utf8

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

__all__ = [
    "IMAGE_ENDINGS",
    "MANY_VALUES",
    "StoredPicture",
    "convert_picture",
    "open_picture",
    "read_image",
    "read_mask",
]

IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
_FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")
_GREY16 = ("I;16", "I;16B", "I;16L", "I;16N")
_COLOURS = ("1", "L", "P", "RGB", "LA", "La", "PA", "RGBA")
MANY_VALUES = 32
_USED_16_BITS = 1 << 14
_MAX_BYTES = 1 << 31
_TAGS = _BITS, _PHOTOMETRIC, _ORIENTATION, _SAMPLES, _PLANAR, _SAMPLE_FORMAT = 258, 262, 274, 277, 284, 339  # of TIFF


@dataclass(frozen=True)
class StoredPicture:
    """A decoded, upright image or mask, with its storage format.

    Attributes:
        path: its file.
        sha256: hash of the decoded file.
        stored: storage format, such as ``RGB`` or ``L, turned by EXIF``.
        lossy: whether its compression changes values.
        deep: whether colours have 16 bits; Pillow keeps only the high byte.
        picture: the decoded picture.
    """

    path: str
    sha256: str
    stored: str
    lossy: bool
    deep: bool
    picture: "Image.Image"

    @property
    def n_values(self) -> int:
        """Number of distinct stored values over all channels."""
        import numpy as np

        if self.picture.mode in _COLOURS:
            return int(np.reshape(self.picture.histogram(), (-1, 256)).any(axis=0).sum())
        return len(np.unique(np.asarray(self.picture)))

    @property
    def is_shaded(self) -> bool:
        """Whether a mask has more distinct values than class numbers would have, as with soft edges or noise."""
        return not self.lossy and self.n_values > MANY_VALUES

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels, upright."""
        return self.picture.size

    def to_image(self) -> "Image.Image":
        """Converts to RGB by the table of this module.

        Raises:
            NfbenchError: no exact conversion is known.
        """
        from PIL import Image

        picture = self.picture
        if picture.mode not in (*_COLOURS, *_GREY16, "F"):
            raise self._refused("has no exact conversion to 8-bit RGB; save it as PNG with 8 bits per channel")
        with _foreseen("image", self.path):
            if picture.mode in _GREY16:
                values = _values(picture)
                self._check_range(int(values.max()))
                return Image.fromarray((values >> 8).astype("uint8")).convert("RGB")
            if picture.mode == "F":
                return Image.fromarray(self._of_floats()).convert("RGB")
            if not picture.has_transparency_data and not self.deep:
                return picture.convert("RGB")
            shown = _shown(picture)
            if not shown.any() and _differs(_values(picture)):
                raise self._refused("is fully transparent; save it without its alpha channel")
            if self.deep:
                self._check_range(256 * int(shown.max()))
            return Image.fromarray(shown).convert("RGB")

    def to_mask(self) -> "np.ndarray":
        """Returns the defective pixels, ``(H, W)`` bool, by the table of this module.

        Raises:
            NfbenchError: the mask is ambiguous or in an unsupported format.
        """
        mode = self.picture.mode
        if mode not in (*_COLOURS, *_GREY16, "I", "F") or self.deep:
            raise self._refused("is not supported as a mask; save it as 8-bit grey PNG")
        with _foreseen("mask", self.path):
            return self._numbered() if mode not in _COLOURS else self._drawn()

    def _numbered(self) -> "np.ndarray":
        """Returns the defective pixels of a mask with numbers of more than 8 bits."""
        import numpy as np

        values = _values(self.picture)
        if not np.isfinite(values).all() or (values < 0).any() or (values != np.round(values)).any():
            raise self._refused("has values that are not class numbers; save it as 8-bit PNG")
        return values > 0

    def _drawn(self) -> "np.ndarray":
        """Returns the defective pixels of a mask of at most 8 bits."""
        colours = _shown(self.picture)
        shown = colours.max(axis=-1) if colours.ndim == 3 else colours
        if colours.ndim == 3 and shown.all() and _differs(colours):
            raise self._refused("has colours but no black, so the normal region is unknown; draw it in black")
        if not shown.any() and _differs(_values(self.picture)):
            raise self._refused("shows only black, although its palette or alpha channel has a drawing; show it")
        if self.lossy and 0 < shown.max() <= 127:
            raise self._refused("is lossy and too dark to distinguish defects from noise; save it as PNG")
        return shown > (127 if self.lossy else 0)

    def _of_floats(self) -> "np.ndarray":
        """Returns grey floats in [0, 1] as ``(H, W)`` uint8."""
        import numpy as np

        values = _values(self.picture)
        if not np.isfinite(values).all():
            raise self._refused("has values that are NaN or infinite; save it with finite values")
        if values.min() < 0 or values.max() > 1:
            raise self._refused(
                f"has floats from {values.min():.9g} to {values.max():.9g}, but only those in [0, 1] have a known "
                "scale; scale all images of the dataset by the same factor"
            )
        return np.rint(255 * values.astype(np.float64)).astype(np.uint8)  # exact products

    def _check_range(self, highest: int) -> None:
        if highest < _USED_16_BITS:
            raise self._refused(
                f"has 16 bits, but no value reaches {_USED_16_BITS}, as from a camera with fewer bits; scale it to the "
                "full range of 8 or 16 bits"
            )

    def _refused(self, why: str) -> NfbenchError:
        return NfbenchError(f"{self.path} ({self.stored}) {why}")


def read_image(path: str | Path, sha256: str = "") -> "Image.Image":
    """Decodes an image to upright RGB; see the table of this module.

    Args:
        path: its file.
        sha256: hash that the file must have; empty to accept any.

    Raises:
        NfbenchError: the file is missing, has changed, cannot be decoded, or has no exact conversion.
    """
    return open_picture(path, "image", sha256).to_image()


def read_mask(path: str | Path, sha256: str = "") -> "np.ndarray":
    """Decodes a mask to upright ``(H, W)`` bool; takes the arguments of ``read_image``."""
    return open_picture(path, "mask", sha256).to_mask()


def convert_picture(picture: "Image.Image", name: str) -> "Image.Image":
    """Converts an image that Pillow opened or made to upright RGB, as ``read_image`` does for files.

    Args:
        picture: the image; it stays as it is, but is loaded.
        name: word for it in messages.

    Raises:
        NfbenchError: it cannot be decoded, or has no exact conversion.
    """
    with _foreseen("image", name):
        return _stored(name, picture, "").to_image()


def open_picture(path: str | Path, kind: str = "image", sha256: str = "") -> StoredPicture:
    """Reads and decodes a file.

    Args:
        path: its file.
        kind: word for the file in messages.
        sha256: hash that the file must have; empty to accept any.

    Raises:
        NfbenchError: the file is missing, has changed, or cannot be decoded; the message names it.
    """
    path = str(path)
    content = _read(path, kind)
    found = hashlib.sha256(content).hexdigest()
    if sha256 and found != sha256:
        raise NfbenchError(f"{kind} {path} has changed since the manifest was written; run prepare_data again")
    with _foreseen(kind, path):
        return _decode(path, content, found)


@contextmanager
def _foreseen(kind: str, path: str) -> Iterator[None]:
    """Turns any error of a decoder into one line; damaged bytes can raise errors of any type."""
    try:
        yield
    except NfbenchError:
        raise
    except Exception as error:
        raise NfbenchError(f"{kind} {path} cannot be decoded: {_reason(error)}") from None


def _read(path: str, kind: str) -> bytes:
    if valid_utf8(path) != path:
        raise NfbenchError(f"{kind} {path}: the file name is not UTF-8; rename it")
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode) or not stat.S_ISREG(status.st_mode):
            raise NfbenchError(
                f"{kind} {path} is {'a folder' if stat.S_ISDIR(status.st_mode) else 'not a regular file'}"
            )
        if status.st_size > _MAX_BYTES:
            raise NfbenchError(f"{kind} {path} is larger than {_MAX_BYTES >> 30} GiB; make it smaller")
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise NfbenchError(f"{kind} {path} is missing") from None
    except (OSError, ValueError) as error:  # a ValueError: a null character in the name
        raise NfbenchError(f"{kind} {path} cannot be read: {getattr(error, 'strerror', None) or error}") from None


def _decode(path: str, content: bytes, sha256: str) -> StoredPicture:
    from PIL import Image

    warnings.filterwarnings("ignore", module=r"PIL\b")  # they print source lines; serious problems are errors below
    with Image.open(io.BytesIO(content), formats=_FORMATS) as picture:
        return _stored(path, picture, sha256)


def _stored(path: str, picture: "Image.Image", sha256: str) -> StoredPicture:
    """Loads a picture, turns it upright, and describes how it is stored."""
    from PIL import ImageOps

    if picture.format != "MPO" and (pages := getattr(picture, "n_frames", 1)) > 1:
        raise NfbenchError(f"{path} has {pages} pages or frames; save the one to use as its own file")
    raw = _rawmode(picture)
    compression = str(picture.info.get("compression", ""))
    lossy = picture.format in ("JPEG", "MPO", "WEBP") or any(name in compression for name in ("jpeg", "webp"))
    tags = {tag: value for tag in _TAGS if (value := getattr(picture, "tag_v2", {}).get(tag)) is not None}
    picture.load()  # applies the orientation of a TIFF
    turned = _is_turned(path, picture, tags)
    upright = ImageOps.exif_transpose(picture) if turned else picture
    deep = upright.mode in _COLOURS and (raw.endswith((";16B", ";16L", ";16N")) or max(_numbers(tags, _BITS)) > 8)
    stored = upright.mode + ", 16 bits" * deep + ", lossy" * lossy + ", turned by EXIF" * turned
    if "transparency" in upright.info and upright.mode != "P" and raw not in ("L", "RGB"):
        raise NfbenchError(f"{path} has a transparent colour that is not 8-bit; save it without transparency")
    _check_tags(path, upright, tags, deep)
    return StoredPicture(path, sha256, stored, lossy, deep, upright)


def _check_tags(path: str, picture: "Image.Image", tags: dict[int, Any], deep: bool) -> None:
    """Refuses TIFF files with tags that Pillow ignores although they change the meaning of values."""
    if picture.mode in _COLOURS and set(_numbers(tags, _SAMPLE_FORMAT)) - {1, 4}:
        raise NfbenchError(f"{path} has signed values; save it as 8-bit PNG")
    if tags.get(_SAMPLES, 0) > len(picture.getbands()):
        raise NfbenchError(f"{path} has {tags[_SAMPLES]} channels; save it as grey or RGB")
    if tags and picture.mode in (*_GREY16, "I", "F") and tags.get(_PHOTOMETRIC) != 1:
        raise NfbenchError(f"{path} has more than 8 bits and does not store black as 0; save it as PNG")
    if deep and tags.get(_PLANAR) == 2:
        raise NfbenchError(f"{path} has 16 bits in separate planes; save it as PNG")


def _numbers(tags: dict[int, Any], tag: int) -> tuple[int, ...]:
    """Returns the values of a tag; 1 if the file does not have it."""
    found = tags.get(tag, 1)
    return found if isinstance(found, tuple) else (found,)


def _is_turned(path: str, picture: "Image.Image", tags: dict[int, Any]) -> bool:
    """Whether the EXIF orientation differs from upright."""
    try:
        found = tags[_ORIENTATION] if _ORIENTATION in tags else picture.getexif().get(_ORIENTATION)
        return found in range(2, 9)
    except Exception as error:  # damaged data can raise anything
        raise NfbenchError(f"{path} has damaged EXIF data, save it without them: {_reason(error)}") from None


def _rawmode(picture: "Image.Image") -> str:
    """Returns Pillow's name of the storage format; empty if Pillow does not give one."""
    tile = getattr(picture, "tile", None)
    arguments = tile[0][3] if tile else ""
    return str(arguments[0] if isinstance(arguments, tuple) and arguments else arguments)


def _reason(error: Exception) -> str:
    """Describes an error of a decoder in one line."""
    from PIL import Image, UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        return "it is not a PNG, JPEG, BMP, TIFF or WebP file, or of an unsupported variant"
    if isinstance(error, Image.DecompressionBombError):
        return f"its header states more than {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels; cut it into tiles"
    if isinstance(error, MemoryError):
        return "it does not fit in memory"
    return one_line(error)


def _values(picture: "Image.Image") -> "np.ndarray":
    """Returns the stored values; for a palette, its numbers."""
    import numpy as np

    return np.asarray(picture)


def _shown(picture: "Image.Image") -> "np.ndarray":
    """Returns the picture as shown on black, ``(H, W)`` or ``(H, W, 3)`` uint8."""
    import numpy as np

    if picture.mode == "La":
        return np.asarray(picture.getchannel("L"))
    if not picture.has_transparency_data:
        return np.asarray(picture.convert("L" if picture.mode in ("1", "L") else "RGB"))
    pixels = np.asarray(picture.convert("RGBA"))
    colour, alpha = pixels[..., :3], pixels[..., 3:]
    if alpha.min() == 255:
        return colour
    return ((colour.astype(np.uint16) * alpha + 127) // 255).astype(np.uint8)


def _differs(values: "np.ndarray") -> bool:
    """Whether pixels differ from each other."""
    return bool((values != values[:1, :1]).any())

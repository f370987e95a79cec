"""How images and masks are opened, everywhere: formats, modes, orientation, and what a mask marks.

A file is read once, so that its hash and its pixels are those of the same bytes. Its content is PNG, JPEG (of several
frames the first), BMP, TIFF or WebP, under any ending; no other decoder is tried. Pictures are turned upright as
their EXIF orientation says. These ways of storing a picture are read, all others are refused by name:

================================  ====================================  ==============================================
stored as                         an image becomes                      a mask marks
================================  ====================================  ==============================================
1 bit; grey of 2, 4, 8 bits       three equal channels                  what is above 0, also class numbers 1, 2, ...
RGB of 8 bits                     itself                                what is above 0 in a channel
palette                           the colours that it shows             where a shown colour is above 0
alpha channel, transparent        composited over black                 where the composited colour is above 0
grey of 16 bits                   the high byte, as three channels      what is above 0
colour of 16 bits                 the high byte of each channel         refused
whole numbers of 32 bits, floats  refused                               what is above 0, if all are whole and none below
CMYK, YCbCr, LAB, more channels   refused                               refused
================================  ====================================  ==============================================

The high byte is exact for pictures of 8 bits that are stored in 16, as ``257 v`` or ``256 v``. Where no value reaches
2^14, the values are those of a camera of 10, 12 or 14 bits, which would become almost black: refused. Masks in lossy
files (JPEG, WebP, TIFF with JPEG inside) mark what is above 127; one that is neither black nor that bright is refused.
So is a mask that shows only black while its palette numbers or its alpha channel differ: its drawing is not visible.
And so is a mask of several colours without black: what is normal cannot be told.
Colour profiles and gamma are not applied.
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

__all__ = ["IMAGE_ENDINGS", "MANY_VALUES", "StoredPicture", "open_picture", "read_image", "read_mask"]

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
    """An image or mask as it is stored, decoded and upright.

    Attributes:
        path: its file.
        sha256: hash of the file that was decoded.
        stored: how it is stored, such as ``RGB`` or ``L, turned by EXIF``.
        lossy: whether its compression changes values.
        deep: whether colours have 16 bits, of which Pillow keeps the high byte.
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
        """Number of distinct values that are stored, over all channels."""
        import numpy as np

        if self.picture.mode in _COLOURS:
            return int(np.reshape(self.picture.histogram(), (-1, 256)).any(axis=0).sum())
        return len(np.unique(np.asarray(self.picture)))

    @property
    def is_shaded(self) -> bool:
        """Whether a mask has more values than classes, as soft edges and noise have, and all above 0 mark a defect."""
        return not self.lossy and self.n_values > MANY_VALUES

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels, upright."""
        return self.picture.size

    def to_image(self) -> "Image.Image":
        """The picture in RGB, by the table of this module.

        Raises:
            NfbenchError: no exact conversion is known.
        """
        from PIL import Image

        picture = self.picture
        if picture.mode not in (*_COLOURS, *_GREY16):
            raise self._refused("has no exact conversion to 8-bit RGB; save it as PNG with 8 bits per channel")
        with _foreseen("image", self.path):
            if picture.mode in _GREY16:
                values = _values(picture)
                self._check_range(int(values.max()))
                return Image.fromarray((values >> 8).astype("uint8")).convert("RGB")
            if not picture.has_transparency_data and not self.deep:
                return picture.convert("RGB")
            shown = _shown(picture)
            if not shown.any() and _differs(_values(picture)):
                raise self._refused("is transparent throughout; save it without its alpha channel")
            if self.deep:
                self._check_range(256 * int(shown.max()))
            return Image.fromarray(shown).convert("RGB")

    def to_mask(self) -> "np.ndarray":
        """Where the picture marks a defect, ``(H, W)`` bool, by the table of this module.

        Raises:
            NfbenchError: it cannot be told.
        """
        mode = self.picture.mode
        if mode not in (*_COLOURS, *_GREY16, "I", "F") or self.deep:
            raise self._refused("is not read as a mask; save it as grey PNG with 8 bits")
        with _foreseen("mask", self.path):
            return self._numbered() if mode not in _COLOURS else self._drawn()

    def _numbered(self) -> "np.ndarray":
        """Where a mask of numbers of more than 8 bits marks a defect."""
        import numpy as np

        values = _values(self.picture)
        if not np.isfinite(values).all() or (values < 0).any() or (values != np.round(values)).any():
            raise self._refused("has values that are no class numbers; save it as PNG with 8 bits")
        return values > 0

    def _drawn(self) -> "np.ndarray":
        """Where a mask of at most 8 bits marks a defect."""
        colours = _shown(self.picture)
        shown = colours.max(axis=-1) if colours.ndim == 3 else colours
        if colours.ndim == 3 and shown.all() and _differs(colours):
            raise self._refused("has colours but no black: what is normal cannot be told; draw it in black")
        if not shown.any() and _differs(_values(self.picture)):
            raise self._refused("shows only black, though its palette or alpha channel is drawn in; save it as shown")
        if self.lossy and 0 < shown.max() <= 127:
            raise self._refused("is lossy and too dark to tell defects from noise; save it as PNG")
        return shown > (127 if self.lossy else 0)

    def _check_range(self, highest: int) -> None:
        if highest < _USED_16_BITS:
            raise self._refused(
                f"has 16 bits, but no value reaches {_USED_16_BITS}: a camera of fewer bits? Scale it to 8 or 16 bits"
            )

    def _refused(self, why: str) -> NfbenchError:
        return NfbenchError(f"{self.path} ({self.stored}) {why}")


def read_image(path: str | Path, sha256: str = "") -> "Image.Image":
    """Decodes an image to upright RGB; see the table of this module.

    Args:
        path: its file.
        sha256: hash that the file must have; empty for any.

    Raises:
        NfbenchError: the file is missing, has changed, does not decode, or has no exact conversion.
    """
    return open_picture(path, "image", sha256).to_image()


def read_mask(path: str | Path, sha256: str = "") -> "np.ndarray":
    """Decodes a mask to upright ``(H, W)`` bool, as ``read_image`` decodes an image."""
    return open_picture(path, "mask", sha256).to_mask()


def open_picture(path: str | Path, kind: str = "image", sha256: str = "") -> StoredPicture:
    """Reads and decodes a file.

    Args:
        path: its file.
        kind: word for it in messages.
        sha256: hash that the file must have; empty for any.

    Raises:
        NfbenchError: the file is missing, has changed, or does not decode; one line that names it.
    """
    path = str(path)
    content = _read(path, kind)
    found = hashlib.sha256(content).hexdigest()
    if sha256 and found != sha256:
        raise NfbenchError(f"{kind} {path} has changed since the manifest was made; run prepare_data again")
    with _foreseen(kind, path):
        return _decode(path, content, found)


@contextmanager
def _foreseen(kind: str, path: str) -> Iterator[None]:
    """Makes one line of what a decoder raises: for damaged bytes, any error."""
    try:
        yield
    except NfbenchError:
        raise
    except Exception as error:
        raise NfbenchError(f"{kind} {path} cannot be decoded: {_reason(error)}") from None


def _read(path: str, kind: str) -> bytes:
    if valid_utf8(path) != path:
        raise NfbenchError(f"{kind} {path}: its name is not UTF-8; rename it")
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode) or not stat.S_ISREG(status.st_mode):
            raise NfbenchError(f"{kind} {path} is {'a folder' if stat.S_ISDIR(status.st_mode) else 'no regular file'}")
        if status.st_size > _MAX_BYTES:
            raise NfbenchError(f"{kind} {path} is larger than {_MAX_BYTES >> 30} GiB; make it smaller")
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise NfbenchError(f"{kind} {path} is missing") from None
    except (OSError, ValueError) as error:  # a ValueError: a null character in the name
        raise NfbenchError(f"{kind} {path} cannot be read: {getattr(error, 'strerror', None) or error}") from None


def _decode(path: str, content: bytes, sha256: str) -> StoredPicture:
    from PIL import Image, ImageOps

    warnings.filterwarnings("ignore", module=r"PIL\b")  # they show lines of source; what matters is an error here
    with Image.open(io.BytesIO(content), formats=_FORMATS) as picture:
        if picture.format != "MPO" and getattr(picture, "is_animated", False):
            raise NfbenchError(f"{path} has several frames; save the one that counts as a file")
        raw = _rawmode(picture)
        compression = str(picture.info.get("compression", ""))
        lossy = picture.format in ("JPEG", "MPO", "WEBP") or any(name in compression for name in ("jpeg", "webp"))
        tags = {tag: value for tag in _TAGS if (value := getattr(picture, "tag_v2", {}).get(tag)) is not None}
        picture.load()  # turns a TIFF
        turned = _is_turned(path, picture, tags)
        upright = ImageOps.exif_transpose(picture) if turned else picture
    deep = upright.mode in _COLOURS and (raw.endswith((";16B", ";16L", ";16N")) or max(_numbers(tags, _BITS)) > 8)
    stored = upright.mode + ", 16 bits" * deep + ", lossy" * lossy + ", turned by EXIF" * turned
    if "transparency" in upright.info and upright.mode != "P" and raw not in ("L", "RGB"):
        raise NfbenchError(f"{path} has a transparent colour of other than 8 bits; save it without transparency")
    _check_tags(path, upright, tags, deep)
    return StoredPicture(path, sha256, stored, lossy, deep, upright)


def _check_tags(path: str, picture: "Image.Image", tags: dict[int, Any], deep: bool) -> None:
    """Refuses TIFF files whose tags give values a meaning that Pillow does not apply."""
    if picture.mode in _COLOURS and set(_numbers(tags, _SAMPLE_FORMAT)) - {1, 4}:
        raise NfbenchError(f"{path} has values with a sign; save it as PNG with 8 bits")
    if tags.get(_SAMPLES, 0) > len(picture.getbands()):
        raise NfbenchError(f"{path} has {tags[_SAMPLES]} channels; save it as grey or RGB")
    if tags and picture.mode in (*_GREY16, "I", "F") and tags.get(_PHOTOMETRIC) != 1:
        raise NfbenchError(f"{path} has more than 8 bits, and does not have black as 0; save it as PNG")
    if deep and tags.get(_PLANAR) == 2:
        raise NfbenchError(f"{path} has 16 bits in separate planes; save it as PNG")


def _numbers(tags: dict[int, Any], tag: int) -> tuple[int, ...]:
    """Values of a tag, 1 where the file does not have it."""
    found = tags.get(tag, 1)
    return found if isinstance(found, tuple) else (found,)


def _is_turned(path: str, picture: "Image.Image", tags: dict[int, Any]) -> bool:
    """Whether the EXIF data say that the stored pixels are not upright."""
    try:
        found = tags[_ORIENTATION] if _ORIENTATION in tags else picture.getexif().get(_ORIENTATION)
        return found in range(2, 9)
    except Exception as error:  # as of any decoder
        raise NfbenchError(f"{path} has damaged EXIF data, save it without them: {_reason(error)}") from None


def _rawmode(picture: "Image.Image") -> str:
    """How the file stores its pixels, in Pillow's words; empty where Pillow does not say."""
    tile = getattr(picture, "tile", None)
    arguments = tile[0][3] if tile else ""
    return str(arguments[0] if isinstance(arguments, tuple) and arguments else arguments)


def _reason(error: Exception) -> str:
    """One line for what a decoder raised."""
    from PIL import Image, UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        return "it is no PNG, JPEG, BMP, TIFF or WebP, or of a kind that is not read"
    if isinstance(error, Image.DecompressionBombError):
        return f"its header says more than {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels; cut it into tiles"
    if isinstance(error, MemoryError):
        return "it does not fit in memory"
    return one_line(error)


def _values(picture: "Image.Image") -> "np.ndarray":
    """The stored values, of a palette its numbers."""
    import numpy as np

    return np.asarray(picture)


def _shown(picture: "Image.Image") -> "np.ndarray":
    """What a picture shows over black, ``(H, W)`` or ``(H, W, 3)`` uint8."""
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
    """Whether the pixels are not all the same."""
    return bool((values != values[:1, :1]).any())

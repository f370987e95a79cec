"""Generated image files: modes by formats, orientations, palettes, alpha, damage; each with the expected pixels."""

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

__all__ = ["Case", "damaged", "exact", "refused", "turned"]

_RNG = np.random.default_rng(0)
GREY = _RNG.integers(0, 256, (9, 13), dtype=np.uint8)
COLOUR = _RNG.integers(0, 256, (9, 13, 3), dtype=np.uint8)
LOSSLESS = ("png", "bmp", "tif", "webp")
_PILLOW = {"png": "PNG", "bmp": "BMP", "tif": "TIFF", "webp": "WEBP", "jpg": "JPEG"}
_ORIENTED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: np.rot90,
}
"""What each EXIF orientation asks to do with the stored pixels."""


@dataclass(frozen=True)
class Case:
    """A file by name and content; ``shown`` is the expected image ``(H, W, 3)``, or None if it must be refused."""

    name: str
    content: bytes
    shown: np.ndarray | None = None


def saved(image: Image.Image, ending: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    lossless = {"lossless": True, "exact": True} if ending == "webp" else {}
    image.save(buffer, _PILLOW[ending], **lossless, **options)
    return buffer.getvalue()


def encoded(array: np.ndarray, ending: str) -> bytes:
    """By OpenCV, which takes colours as blue, green, red."""
    flipped = array[..., [2, 1, 0, 3][: array.shape[2]]] if array.ndim == 3 else array
    return cv2.imencode(f".{ending}", np.ascontiguousarray(flipped))[1].tobytes()


def three(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey[..., None], 3, axis=2)


def exact() -> Iterator[Case]:
    """Files in the supported modes, with their expected pixels."""
    bits = GREY > 127
    opaque, half = np.full_like(GREY, 255), np.where(bits, 255, 100).astype(np.uint8)
    over_black = np.round(COLOUR * (half[..., None] / 255.0)).astype(np.uint8)
    palette = Image.fromarray(COLOUR // 64 * 64).quantize(64)
    for ending in LOSSLESS:
        yield Case(f"rgb.{ending}", saved(Image.fromarray(COLOUR), ending), COLOUR)
        yield Case(f"grey.{ending}", saved(Image.fromarray(GREY), ending), three(GREY))
        yield Case(f"bits.{ending}", saved(Image.fromarray(bits), ending), three(bits * np.uint8(255)))
        yield Case(f"palette.{ending}", saved(palette, ending), np.asarray(palette.convert("RGB")))
        yield Case(f"opaque.{ending}", saved(Image.fromarray(np.dstack([COLOUR, opaque])), ending), COLOUR)
        shown = COLOUR if ending == "bmp" else over_black  # the fourth byte of a BMP is no alpha
        yield Case(f"half.{ending}", saved(Image.fromarray(np.dstack([COLOUR, half])), ending), shown)
    grey_alpha = Image.fromarray(np.dstack([GREY, opaque]), "LA")
    yield Case("la.png", saved(grey_alpha, "png"), three(GREY))
    yield Case("la.tif", saved(grey_alpha, "tif"), three(GREY))
    yield Case("key.png", saved(Image.fromarray(COLOUR), "png", transparency=(1, 2, 3)), COLOUR)
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits"):
        yield Case(f"{compression}.tif", saved(Image.fromarray(COLOUR), "tif", compression=compression), COLOUR)
    yield from _of_16_bits()
    for depth in (1, 2, 4, 8, 16):
        values = _RNG.integers(0, 1 << depth, (4, 16))
        values[0, 0] = (1 << depth) - 1
        shown = values * 255 // ((1 << depth) - 1) if depth <= 8 else values >> 8
        yield Case(f"depth{depth}.png", png_of_depth(values, depth), three(shown.astype(np.uint8)))


def _of_16_bits() -> Iterator[Case]:
    grey, colour = GREY.astype(np.uint16), COLOUR.astype(np.uint16)
    for name, factor in (("257", 257), ("256", 256)):
        for ending in ("png", "tif", "tiff"):
            yield Case(f"grey16_{name}.{ending}", encoded(grey * factor, ending), three(GREY))
            yield Case(f"colour16_{name}.{ending}", encoded(colour * factor, ending), COLOUR)
    floats = GREY.astype(np.float32) / 255
    for ending in ("tif", "tiff"):
        yield Case(f"float.{ending}", saved(Image.fromarray(floats), "tif"), three(GREY))
    yield Case("float_big_endian.tif", tiff(floats, ">", 1, sample_format=3), three(GREY))
    yield Case("float_dark.tif", saved(Image.fromarray(floats / 255), "tif"), three((GREY > 127).astype(np.uint8)))
    yield Case("big_endian16.tif", tiff(grey * 257, ">", 1), three(GREY))
    yield Case("little_endian16.tif", tiff(grey * 257, "<", 1), three(GREY))


def turned() -> Iterator[Case]:
    """All orientations in all formats that store one, also wrong ones, which are not applied."""
    smooth = cv2.resize(COLOUR[:3, :4], (48, 32), interpolation=cv2.INTER_CUBIC)
    for ending in ("png", "tif", "webp", "jpg"):
        for orientation in (*_ORIENTED, 0, 9, 77):
            exif = Image.Exif()
            exif[0x0112] = orientation
            stored = Image.fromarray(smooth)
            content = saved(stored, ending, exif=exif, **({"quality": 95} if ending == "jpg" else {}))
            shown = np.asarray(Image.open(io.BytesIO(saved(stored, "jpg", quality=95)))) if ending == "jpg" else smooth
            upright = _ORIENTED.get(orientation, _ORIENTED[1])(shown)
            yield Case(f"turned{orientation}.{ending}", content, upright)


def refused() -> Iterator[Case]:
    """Files that have no exact conversion, and files of other formats under the endings of images."""
    grey, floats = Image.fromarray(GREY), GREY.astype(np.float32) / 255
    for ending in ("png", "jpg", "tif", "bmp"):
        yield Case(f"postscript.{ending}", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\nshowpage\n")
        yield Case(f"empty.{ending}", b"")
        yield Case(f"zeros.{ending}", bytes(4096))
        for other in ("GIF", "PPM", "TGA", "ICO", "PCX", "SGI", "DDS", "IM", "EPS", "PDF", "JPEG2000"):
            buffer = io.BytesIO()
            grey.convert("RGB").save(buffer, other)
            yield Case(f"{other.lower()}.{ending}", buffer.getvalue())
    yield from _refused_floats(floats)
    yield Case("int32.tif", saved(Image.fromarray(GREY.astype(np.int32)), "tif"))
    for ending in ("jpg", "tif"):
        yield Case(f"cmyk.{ending}", saved(Image.fromarray(COLOUR).convert("CMYK"), ending))
    yield Case("lab.tif", saved(Image.fromarray(COLOUR).convert("LAB"), "tif"))
    yield Case("ycbcr.tif", saved(Image.fromarray(COLOUR).convert("YCbCr"), "tif"))
    for ending in ("png", "tif", "webp"):
        frames = [Image.fromarray(255 - COLOUR), Image.fromarray(COLOUR // 2)]
        yield Case(f"frames.{ending}", saved(Image.fromarray(COLOUR), ending, save_all=True, append_images=frames))
    for bits in (8, 10, 12, 14):
        values = (GREY.astype(np.uint16) << bits) >> 8
        yield Case(f"camera{bits}.png", encoded(values, "png"))
        yield Case(f"camera{bits}.tif", tiff(values, ">", 1))
        yield Case(f"camera{bits}_colour.png", encoded((COLOUR.astype(np.uint16) << bits) >> 8, "png"))
    yield Case("white_is_zero16.tif", tiff(GREY.astype(np.uint16) * 257, "<", 0))
    yield Case("signed8.tif", tiff(GREY, "<", 1, sample_format=2))
    yield Case("signed16.tif", tiff(GREY.astype(np.uint16) * 100, "<", 1, sample_format=2))
    yield Case("hidden.png", saved(Image.fromarray(np.dstack([COLOUR, np.zeros_like(GREY)])), "png"))
    for ending in LOSSLESS:
        yield Case(f"huge.{ending}", with_huge_header(ending))


def _refused_floats(floats: np.ndarray) -> Iterator[Case]:
    """Floats that have no stated scale, and storage of floats that no decoder here reads exactly."""
    yield Case("floats_of_8_bits.tif", saved(Image.fromarray(255 * floats), "tif"))
    one_of = {"above": np.nextafter(np.float32(1), np.float32(2)), "below": -1e-30, "nan": np.nan, "inf": np.inf}
    for name, value in one_of.items():
        faulty = floats.copy()
        faulty[3, 4] = value
        yield Case(f"{name}.tif", saved(Image.fromarray(faulty), "tif"))
    yield Case("float64.tif", encoded(floats.astype(np.float64), "tif"))
    yield Case("colour_floats.tif", encoded(COLOUR.astype(np.float32) / 255, "tif"))
    yield Case("float16.tif", tiff(floats.astype(np.float16), "<", 1, sample_format=3))
    yield Case("white_is_zero_floats.tif", tiff(floats, "<", 0, sample_format=3))


def damaged() -> Iterator[Case]:
    """Truncated files, files with flipped bytes, and with bytes put in; anything may be read, or refused by name."""
    rng = np.random.default_rng(1)
    for ending in (*LOSSLESS, "jpg"):
        exif = Image.Exif()
        exif[0x0112] = 6
        options = {} if ending == "bmp" else {"exif": exif}
        whole = saved(Image.fromarray(COLOUR), ending, **options)
        for length in np.unique(np.linspace(1, len(whole) - 1, 25).astype(int)):
            yield Case(f"cut{length}.{ending}", whole[:length])
        for number in range(60):
            content = bytearray(whole)
            where = rng.integers(0, min(len(content), 80) if number % 2 else len(content), rng.integers(1, 6))
            for place in where:
                content[place] = rng.integers(256)
            yield Case(f"flipped{number}.{ending}", bytes(content))
        for number in range(10):
            place = rng.integers(len(whole))
            yield Case(f"stuffed{number}.{ending}", whole[:place] + rng.bytes(7) + whole[place:])


def png_of_depth(values: np.ndarray, depth: int) -> bytes:
    """A grey PNG of 1 to 16 bits for each pixel."""
    height, width = values.shape
    if depth == 16:
        rows = values.astype(">u2").view(np.uint8).reshape(height, -1)
    else:
        planes = (values[..., None] >> np.arange(depth)[::-1]) & 1
        rows = np.packbits(planes.reshape(height, -1).astype(np.uint8), axis=1)
    return png(width, height, depth, b"".join(b"\0" + row.tobytes() for row in rows))


def png(width: int, height: int, depth: int, data: bytes) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def tiff(values: np.ndarray, order: str, photometric: int, sample_format: int = 1, width: int | None = None) -> bytes:
    """A grey TIFF of one strip, without compression."""
    height, real_width = values.shape
    data = values.astype(values.dtype.newbyteorder(order)).tobytes()
    tags = [
        (256, width or real_width), (257, width or height), (258, 8 * values.itemsize), (259, 1), (262, photometric),
        (273, 8), (277, 1), (278, width or height), (279, len(data)), (339, sample_format),
    ]  # fmt: skip
    directory = struct.pack(f"{order}H", len(tags))
    for tag, value in tags:
        directory += struct.pack(f"{order}HHII", tag, 4, 1, value)
    mark = b"II*\0" if order == "<" else b"MM\0*"
    return mark + struct.pack(f"{order}I", 8 + len(data)) + data + directory + bytes(4)


def with_huge_header(ending: str) -> bytes:
    """A small file whose header claims a picture of more pixels than are read."""
    if ending == "png":
        return png(60_000, 60_000, 8, bytes(100))
    if ending == "tif":
        return tiff(GREY, "<", 1, width=60_000)
    content = bytearray(saved(Image.fromarray(COLOUR), ending))
    if ending == "bmp":
        content[18:26] = struct.pack("<ii", 60_000, 60_000)
    else:
        content[21:25] = struct.pack("<I", (16_383 | 16_383 << 14))
    return bytes(content)

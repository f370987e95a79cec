"""Pictures as tiles: what the rows of a tiled cache are made from."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple, TypeVar

from PIL import Image

from nfbench.blocks.features import Features, Rows
from nfbench.blocks.tiling import Size, Tiling
from nfbench.config.tiles import TilesConfig, Window
from nfbench.datasets._manifest import Entry, read_checked_image

__all__ = ["Tile", "cut", "like", "tiling_of"]

T = TypeVar("T", bound=Rows)
_DECODED = 4


class Tile(NamedTuple):
    """A part of an image."""

    picture: Entry | Image.Image
    window: Window

    def open(self) -> Image.Image:
        """Returns the part in RGB.

        Raises:
            NfbenchError: the image cannot be read, or has changed since the manifest was made.
        """
        image = _decoded(self.picture) if isinstance(self.picture, Entry) else self.picture
        return image.crop(self.window.box).convert("RGB")


@lru_cache(maxsize=_DECODED)
def _decoded(entry: Entry) -> Image.Image:
    """Returns an image; the last ones are kept, since tiles of an image are read one after another."""
    return read_checked_image(entry)


def tiling_of(
    pictures: Iterable[Entry | Image.Image], tiles: TilesConfig | None, merged_size: Size | None = None
) -> Tiling | None:
    """Returns the tiling of pictures; None without tiles. Entries that are in no manifest are decoded for their size.

    Raises:
        NfbenchError: an image cannot be read.
    """
    return None if tiles is None else Tiling.of(tiles, map(_size, pictures), merged_size)


def _size(picture: Entry | Image.Image) -> Size:
    if isinstance(picture, Entry) and picture.height and picture.width:
        return picture.height, picture.width
    image = read_checked_image(picture) if isinstance(picture, Entry) else picture
    return image.height, image.width


def cut(
    pictures: Sequence[Entry | Image.Image], tiling: Tiling | None
) -> Sequence[Entry | Image.Image] | Sequence[Tile]:
    """Returns what the rows of a cache are made from: all tiles in order, or the pictures without tiles."""
    if tiling is None:
        return pictures
    return [Tile(picture, window) for number, picture in enumerate(pictures) for window in tiling.windows(number)]


def like(features: Features[T], normal: Features[T]) -> Features[T]:
    """Returns features whose merged maps have the size of those of the normal images."""
    if features.tiling is None or normal.tiling is None:
        return features
    return replace(features, tiling=replace(features.tiling, reference=normal.tiling.reference))

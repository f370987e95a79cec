"""Which rows of an array are tiles of which image."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate, chain, groupby
from typing import Self

from nfbench.config.tiles import TilesConfig, Window

__all__ = ["Size", "Tiling"]

Size = tuple[int, int]
"""``(height, width)``."""


@dataclass(frozen=True)
class Tiling:
    """Tiles of ``N`` images, image after image.

    Attributes:
        tiles: how images are cut.
        sizes: size of each image, in pixels.
        reference: image size whose merged map all maps have the size of; see ``TilesConfig.map_size``.
        merged_size: size of all merged maps, if it is known; overrides ``reference``.
    """

    tiles: TilesConfig
    sizes: tuple[Size, ...]
    reference: Size
    merged_size: Size | None = None

    @classmethod
    def of(cls, tiles: TilesConfig, sizes: Iterable[Size], merged_size: Size | None = None) -> Self:
        """Return the tiling of images of these sizes; the reference is as high and wide as the largest."""
        sizes = tuple(sizes)
        height, width = (max(side, default=tiles.size) for side in ([size[axis] for size in sizes] for axis in (0, 1)))
        return cls(tiles, sizes, (height, width), merged_size)

    @classmethod
    def from_runs(cls, tiles: TilesConfig, runs: Iterable[tuple[int, int, int]]) -> Self:
        """Inverse of ``runs``."""
        return cls.of(tiles, chain.from_iterable([(height, width)] * count for count, height, width in runs))

    @property
    def runs(self) -> list[tuple[int, int, int]]:
        """Numbers of consecutive images of one size, each with height and width."""
        return [(len(list(images)), *size) for size, images in groupby(self.sizes)]

    @classmethod
    def join(cls, parts: "Sequence[Tiling]") -> "Tiling":
        """Join the tilings of several sets of images."""
        return Tiling.of(parts[0].tiles, chain.from_iterable(part.sizes for part in parts))

    def __len__(self) -> int:
        return len(self.sizes)

    @cached_property
    def first(self) -> list[int]:
        """First row of each image, and the number of rows at the end, ``N + 1`` numbers."""
        return [0, *accumulate(self.counts)]

    @property
    def counts(self) -> list[int]:
        """Number of tiles of each image."""
        return [self.tiles.count(*size) for size in self.sizes]

    @property
    def n_rows(self) -> int:
        """Number of tiles of all images."""
        return self.first[-1]

    def windows(self, image: int) -> list[Window]:
        """Tiles of an image."""
        return list(self.tiles.windows(*self.sizes[image]))

    def rows(self, images: Iterable[int]) -> list[int]:
        """Rows of all tiles of some images, image after image."""
        return [row for image in map(int, images) for row in range(self.first[image], self.first[image + 1])]

    def select(self, images: Iterable[int]) -> Self:
        """Return the tiling of some images; merged maps keep their size."""
        return replace(self, sizes=tuple(self.sizes[int(image)] for image in images))

    def map_size(self, tile: Size) -> Size:
        """Size of all merged maps, given the size of the map of a tile."""
        return self.merged_size or self.tiles.map_size(self.reference, tile)

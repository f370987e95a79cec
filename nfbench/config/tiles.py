"""Tiles of large images: the configuration, and where tiles lie.

Sizes are ``(height, width)``, in pixels of the original image.
"""

from collections.abc import Iterator
from typing import Literal, NamedTuple

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from nfbench.config.validation import Model

__all__ = ["Blend", "TilesConfig", "Window"]

Blend = Literal["mean", "hann"]


class Window(NamedTuple):
    """Part of an image, in its pixels."""

    top: int
    left: int
    height: int
    width: int

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Left, top, right and bottom, as Pillow takes them."""
        return self.left, self.top, self.left + self.width, self.top + self.height


class TilesConfig(Model):
    """Tiles that each image is cut into; each tile is resized to ``input_size``.

    A side that is not longer than a tile has one tile, which is as long as the side. The last tile of a row or column
    is shifted back into the image, so nothing is padded.
    """

    size: int = Field(ge=32, description="side of a tile, in pixels of the image")
    overlap: int = Field(
        0, ge=0, description="pixels that neighbours share; the last tile of a row or column may share more"
    )
    blend: Blend = Field(
        "mean",
        description="maps where tiles overlap: their mean, or a mean weighted by a Hann window, which is small at the "
        "edges of a tile",
    )

    @model_validator(mode="after")
    def _advances(self) -> "TilesConfig":
        if self.overlap >= self.size:
            text = "'overlap' must be smaller than 'size' ({size})"
            raise PydanticCustomError("overlap", text, {"size": self.size})
        return self

    @property
    def tag(self) -> str:
        """Part of a backbone's tag: ``t512``, ``t512.64``, ``t512.64.hann``."""
        blend = "" if self.blend == "mean" else f".{self.blend}"
        return f"t{self.size}" + (f".{self.overlap}" if self.overlap or blend else "") + blend

    def starts(self, length: int) -> list[int]:
        """First pixel of each tile along a side of an image."""
        last, stride = max(0, length - self.size), self.size - self.overlap
        return [*range(0, last, stride), last]

    def windows(self, height: int, width: int) -> Iterator[Window]:
        """Yields the tiles of an image, row by row."""
        sides = min(self.size, height), min(self.size, width)
        for top in self.starts(height):
            for left in self.starts(width):
                yield Window(top, left, *sides)

    def count(self, height: int, width: int) -> int:
        """Number of tiles of an image."""
        return len(self.starts(height)) * len(self.starts(width))

    def map_size(self, image: tuple[int, int], tile: tuple[int, int]) -> tuple[int, int]:
        """Size of the merged map of an image, given the size of the map of a tile.

        Pixels of the map are as fine as those of a tile's map; a side with one tile has the length of its map.
        """
        height, width = (
            own if length <= self.size else max(own, round(length * own / self.size))
            for length, own in zip(image, tile, strict=True)
        )
        return height, width

"""Maps of tiles, merged into one map per image.

A map of a tile covers its window. Each pixel of the merged map is a weighted mean over the tiles that its centre lies
in; a tile's value there is interpolated bilinearly between the centres of the pixels of its map. Where the pixels of
both maps coincide, that is the value of a pixel. Sums are in float64, so that tiles that agree give their own value.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from nfbench.blocks.maps import ScoresByMap, image_scores
from nfbench.blocks.tiling import Size, Tiling
from nfbench.config.tiles import Blend, Window

__all__ = ["merge_tiles", "stitch"]

_SMALLEST_WEIGHT = 1e-3
"""Weight of the edges of a tile, which may be the only one at the edges of the image."""


class _Line(NamedTuple):
    """Pixels of the merged map along one axis of a tile.

    Attributes:
        first: the first pixel.
        below, above: the two pixels of the tile's map that each pixel lies between.
        share: of the latter.
        weights: of the tile at each pixel.
    """

    first: int
    below: np.ndarray
    above: np.ndarray
    share: np.ndarray
    weights: np.ndarray

    @property
    def pixels(self) -> slice:
        """All pixels."""
        return slice(self.first, self.first + len(self.share))


def stitch(maps: np.ndarray, windows: Sequence[Window], image: Size, size: Size, blend: Blend = "mean") -> np.ndarray:
    """Merge the maps of the tiles of one image.

    Args:
        maps: maps of the tiles, ``(T, h, w)`` float32.
        windows: window of each tile; together they cover the image.
        image: height and width of the image.
        size: height and width of the merged map.
        blend: as in ``TilesConfig``.

    Returns:
        ``size`` float32.

    Raises:
        ValueError: numbers of maps and windows differ, or a pixel lies in no window.
    """
    total, weight = np.zeros(size), np.zeros(size)
    for own, window in zip(maps.astype(np.float64), windows, strict=True):
        top, left, height, width = window
        rows = _line(top, height, image[0], size[0], own.shape[0], blend)
        columns = _line(left, width, image[1], size[1], own.shape[1], blend)
        values = _between(own[rows.below], own[rows.above], rows.share[:, None])
        found = _between(values[:, columns.below], values[:, columns.above], columns.share)
        weights = rows.weights[:, None] * columns.weights
        total[rows.pixels, columns.pixels] += weights * found
        weight[rows.pixels, columns.pixels] += weights
    if not weight.all():
        raise ValueError("the tiles do not cover the image")
    return (total / weight).astype(np.float32)


def _line(start: int, length: int, side: int, pixels: int, own: int, blend: Blend) -> _Line:
    """Return the pixels of a merged side whose centres lie in a window, and where they lie in the tile's map.

    Args:
        start: first pixel of the window, in pixels of the image.
        length: of the window, in pixels of the image.
        side: of the image.
        pixels: of the merged map.
        own: of the tile's map.
        blend: as in ``TilesConfig``.
    """
    # The centre of pixel i is at (2 i + 1) side / (2 pixels). It is compared in integers: each lies in some window.
    centres = (2 * np.arange(pixels) + 1) * side - 2 * pixels * start
    (inside,) = np.nonzero((centres >= 0) & (centres < 2 * pixels * length))
    if not len(inside):
        return _Line(0, inside, inside, np.empty(0), np.empty(0))
    relative = centres[inside] / (2 * pixels * length)
    place = (centres[inside] * own / (2 * pixels * length) - 0.5).clip(0, own - 1)
    below = np.floor(place).astype(np.int64)
    weights = np.ones(len(inside))
    if blend == "hann":
        weights = np.maximum(np.sin(np.pi * relative) ** 2, _SMALLEST_WEIGHT)
    return _Line(int(inside[0]), below, np.minimum(below + 1, own - 1), place - below, weights)


def _between(below: np.ndarray, above: np.ndarray, share: np.ndarray) -> np.ndarray:
    return below + (above - below) * share


def merge_tiles(
    parts: Iterable[tuple[Tensor | None, Tensor]], tiling: Tiling, method: object
) -> Iterator[tuple[Tensor | None, Tensor]]:
    """Merge scores of tiles into scores of images.

    The score of an image is that of its merged map where ``method`` scores images by their maps, see ``ScoresByMap``,
    and the largest score of its tiles otherwise. An image of one tile whose map has the wanted size stays as it is.

    Args:
        parts: maps ``(B, h, w)``, if any, and image scores ``(B,)`` of the rows of ``tiling``, batch by batch.
        tiling: the images.
        method: the method.

    Yields:
        For each image its map ``(1, H, W)``, if any, and its score ``(1,)``.
    """
    rule = method.image_rule if isinstance(method, ScoresByMap) else None
    for number, (maps, scores) in enumerate(_by_image(parts, tiling)):
        if maps is None:
            yield None, scores.amax(0, keepdim=True)
            continue
        height, width = maps.shape[1:]
        size = tiling.map_size((height, width))
        if len(maps) == 1 and size == (height, width):
            yield maps, scores
            continue
        found = stitch(maps.numpy(), tiling.windows(number), tiling.sizes[number], size, tiling.tiles.blend)
        merged = torch.from_numpy(found)[None]
        yield merged, scores.amax(0, keepdim=True) if rule is None else image_scores(merged, rule)


def _by_image(parts: Iterable[tuple[Tensor | None, Tensor]], tiling: Tiling) -> Iterator[tuple[Tensor | None, Tensor]]:
    """Yield maps and scores of all tiles of an image, image by image; few more than those are in memory."""
    counts = iter(tiling.counts)
    wanted, maps, scores = next(counts, 0), list[Tensor](), list[Tensor]()
    for of_maps, of_scores in parts:
        maps += [] if of_maps is None else list(of_maps)
        scores += list(of_scores)
        while wanted and len(scores) >= wanted:
            yield torch.stack(maps[:wanted]) if maps else None, torch.stack(scores[:wanted])
            del maps[:wanted], scores[:wanted]
            wanted = next(counts, 0)

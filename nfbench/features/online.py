"""Features of images generated on request: augmentation that cannot be cached."""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from itertools import accumulate
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from nfbench.anomalies._base import AnomalyGenerator
from nfbench.blocks.features import Features
from nfbench.core.input_size import Sides
from nfbench.features.batches import Source
from nfbench.features.extractor import Extractor
from nfbench.features.forward import Picture, load_extractor, read_images
from nfbench.features.recipe import Recipe
from nfbench.features.tiling import Tile

__all__ = ["Drawn", "OnlineFeatures", "RandomRotations", "pseudo_anomalies"]


class Drawn(NamedTuple):
    """One image as it was drawn."""

    image: Tensor
    """``(3, H, W)`` uint8; ``(K, 3, H, W)`` where the method takes views."""
    mask: Tensor | None = None
    """``(H, W)`` in [0, 1], above 0 where anomalous."""


class OnlineFeatures(Source):
    """Draw an image on request, and extract its features.

    Args:
        draw: makes the image of this index from this seed.
        n_images: number of images that ``draw`` knows.
        recipe: how features are made.
        device: where features are computed and wanted.

    Raises:
        NfbenchError: the weights are not available, or are not those of the recipe.
    """

    def __init__(self, draw: Callable[[int, int], Drawn], n_images: int, recipe: Recipe, device: torch.device) -> None:
        self.draw, self.n_images = draw, n_images
        self.extractor = Extractor(recipe, device, load_extractor(recipe), stored=False)

    def __len__(self) -> int:
        return self.n_images

    def begin(
        self, indices: Tensor, draws: Tensor, pool: Executor
    ) -> Callable[[], tuple[Features[Tensor], Tensor | None]]:
        """See ``Source``; each image is drawn by a thread."""
        extractor = self.extractor
        begun = extractor.begin(self._drawn, list(zip(indices.tolist(), draws.tolist(), strict=True)), pool)

        def end() -> tuple[Features[Tensor], Tensor | None]:
            levels, masks = begun()
            features = extractor.recipe.features(levels)
            return features, None if masks is None else masks.to(extractor.device, non_blocking=True)

        return end

    def _drawn(self, items: Sequence[tuple[int, int]]) -> tuple[Tensor, Tensor | None]:
        images, masks = zip(*(self.draw(index, seed) for index, seed in items), strict=True)
        return torch.stack(images), None if masks[0] is None else torch.stack(masks)


class RandomRotations:
    """Rotate images by random angles.

    Args:
        pictures: images or tiles, in the order of the cache.
        input_size: height and width that they are resized to, or the side of a square.
        degrees: angles are uniform in ``[-degrees, degrees]``.
        views: rotated views of each image; None for one, without an axis of its own.
    """

    def __init__(
        self, pictures: Sequence[Picture | Tile], input_size: Sides, degrees: float, views: int | None
    ) -> None:
        self.pictures, self.input_size, self.degrees, self.views = pictures, input_size, degrees, views

    def __call__(self, index: int, seed: int) -> Drawn:
        """One image, rotated."""
        views = read_images([self.pictures[index]], self.input_size, [self.angles(seed)])[0]
        return Drawn(views if self.views else views[0])

    def angles(self, seed: int) -> list[float]:
        """Angles of the views in degrees."""
        drawn = torch.rand(self.views or 1, generator=torch.Generator().manual_seed(seed))
        return (self.degrees * (2 * drawn - 1)).tolist()


def pseudo_anomalies(generators: Sequence[AnomalyGenerator]) -> Callable[[int, int], Drawn]:
    """Draw the images of all ``generators``, numbered one generator after another."""
    last = list(accumulate(map(len, generators)))

    def draw(index: int, seed: int) -> Drawn:
        number = bisect_right(last, index)
        generator = generators[number]
        image, mask = generator(index - last[number] + len(generator), seed)
        return Drawn(torch.from_numpy(image).movedim(-1, -3), torch.from_numpy(mask.astype(np.float32) / 255))

    return draw

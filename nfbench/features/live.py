"""Features computed on every read, for sets that are too large to cache.

Its ``meta.json`` says how features are made and of which images, as that of any cache, and has no files. All
readers of a cache read this one, at the price of a pass through the backbone each time.
"""

import sys
from collections.abc import Callable, Sequence
from concurrent.futures import Executor

import numpy as np
import torch
from torch import Tensor

from nfbench.core.errors import NfbenchError
from nfbench.datasets._manifest import read_manifest, view_entries
from nfbench.features.extractor import CPU_BATCH, Extractor, thread_pool
from nfbench.features.forward import DTYPE, Picture, images_hash, read_images
from nfbench.features.meta import FeatureMeta
from nfbench.features.tiling import Tile, cut

__all__ = ["ComputedFeatures", "LiveLevel", "live_levels"]


class LiveLevel:
    """One level of features, ``(N, C_l, H_l, W_l)`` fp16, or ``(N, K, C_l, H_l, W_l)`` of rotated views.

    Args:
        features: computes all levels of some images.
        number: which of them this is.
        shape: ``(C_l, H_l, W_l)``, after the number of views if there are any.
    """

    dtype = DTYPE
    nbytes = sys.maxsize
    """The largest integer, so that readers never keep a level in memory."""

    def __init__(self, features: "ComputedFeatures", number: int, shape: Sequence[int]) -> None:
        self.features, self.number = features, number
        self.shape = (len(features.pictures), *shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | Sequence[int] | np.ndarray) -> np.ndarray:
        return self.features.read(np.arange(len(self))[rows])[self.number]


def live_levels(meta: FeatureMeta) -> list[LiveLevel]:
    """The levels of a cache without files.

    Raises:
        NfbenchError: the manifest's images are others than those that the cache was described with.
    """
    source = meta.online
    if source is None:
        raise ValueError("a cache with files is read from these")
    entries = view_entries(read_manifest(source.manifest), meta.view)
    if images_hash(entries) != meta.images_sha256:
        raise NfbenchError(f"manifest {source.manifest} has other images than its features; extract them again")
    device = torch.device(source.device if torch.cuda.is_available() else "cpu")
    features, recipe = ComputedFeatures(cut(entries, meta.tiling), Extractor(meta.recipe, device)), meta.recipe
    return [LiveLevel(features, number, (*recipe.views, *shape)) for number, shape in enumerate(recipe.arrays.values())]


class ComputedFeatures:
    """Compute all levels of images, and keep the last result, since levels are read one by one.

    Args:
        pictures: the images, or their tiles.
        extractor: makes their features, as a cache stores them.
    """

    def __init__(self, pictures: Sequence[Picture | Tile], extractor: Extractor) -> None:
        self.pictures, self.extractor = pictures, extractor
        self.last: tuple[bytes, list[Tensor]] | None = None

    def read(self, rows: np.ndarray) -> list[np.ndarray]:
        """All arrays of the images ``rows``, in the order of ``Recipe.arrays``, as a cache has them."""
        if self.last is None or self.last[0] != rows.tobytes():
            self.last = None  # frees it before the next are made
            with thread_pool(torch.get_num_threads()) as pool:
                self.last = rows.tobytes(), self.begin(rows, pool)()
        return [level.numpy() for level in self.last[1]]

    def part(self, first: int, last: int) -> "ComputedFeatures":
        """Return all arrays of consecutive images."""
        return ComputedFeatures(self.pictures[first:last], self.extractor)

    def begin(self, rows: np.ndarray, pool: Executor) -> Callable[[], list[Tensor]]:
        """Start to compute them, and return a function that waits for them; see ``Extractor.begin``."""
        begun = self.extractor.begin(self._read, rows.tolist(), pool, per_task=CPU_BATCH)
        return lambda: begun().levels

    def _read(self, rows: Sequence[int]) -> tuple[Tensor, None]:
        recipe = self.extractor.recipe
        angles = [recipe.angles] * len(rows) if recipe.backbone.rotations else None
        return read_images([self.pictures[row] for row in rows], recipe.backbone.input_size, angles), None

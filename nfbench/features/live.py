"""Features that are computed whenever they are read: the cache of a set that is too large to cache.

Its ``meta.json`` says how features are made and of which images, as that of any cache, and has no files. Whatever
reads a cache reads this one, at the price of a pass through the backbone each time.
"""

import sys
from collections.abc import Sequence
from functools import cached_property, partial

import numpy as np
import torch

from nfbench.core.errors import NfbenchError
from nfbench.datasets._manifest import read_manifest
from nfbench.features.forward import (
    BATCH_SIZE,
    DTYPE,
    Picture,
    as_fp16,
    channels_last,
    extract_batch,
    images_hash,
    load_extractor,
    read_images,
    thread_pool,
)
from nfbench.features.meta import FeatureMeta
from nfbench.features.recipe import Recipe

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
    """No memory takes it: readers keep a level in memory where its bytes fit."""

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
    entries = [entry for entry in read_manifest(source.manifest) if entry.split == meta.view]
    if images_hash(entries) != meta.images_sha256:
        raise NfbenchError(f"manifest {source.manifest} has other images than its features; extract them again")
    device = torch.device(source.device if torch.cuda.is_available() else "cpu")
    features, recipe = ComputedFeatures(entries, meta.recipe, device), meta.recipe
    return [LiveLevel(features, number, (*recipe.views, *shape)) for number, shape in enumerate(recipe.arrays.values())]


class ComputedFeatures:
    """Computes all levels of images, and keeps the last ones: levels are read one after the other.

    Args:
        pictures: the images.
        recipe: how features are made.
        device: where they are computed.
        model: the extractor on the device; loaded when it is first needed without.
    """

    def __init__(
        self,
        pictures: Sequence[Picture],
        recipe: Recipe,
        device: torch.device,
        model: torch.nn.Module | None = None,
    ) -> None:
        self.pictures, self.recipe, self.device = pictures, recipe, device
        if model is not None:
            self.model = model
        self.last: tuple[bytes, list[np.ndarray]] | None = None

    @cached_property
    def model(self) -> torch.nn.Module:
        """The extractor, on the device."""
        return channels_last(load_extractor(self.recipe), self.device)

    def read(self, rows: np.ndarray) -> list[np.ndarray]:
        """All arrays of the images ``rows``, in the order of ``Recipe.arrays``, as a cache has them."""
        if self.last is None or self.last[0] != rows.tobytes():
            self.last = None  # frees it before the next are made
            self.last = rows.tobytes(), self._compute(rows)
        return self.last[1]

    def _compute(self, rows: np.ndarray) -> list[np.ndarray]:
        size, forward = BATCH_SIZE[self.device.type], partial(self._forward, self.model)
        with thread_pool(torch.get_num_threads()) as pool:
            parts = list(pool.map(forward, [rows[first : first + size] for first in range(0, len(rows), size)]))
        return [np.concatenate(level) for level in zip(*parts, strict=True)]

    @torch.inference_mode()
    def _forward(self, model: torch.nn.Module, rows: np.ndarray) -> list[np.ndarray]:
        backbone = self.recipe.backbone
        angles = [self.recipe.angles] * len(rows) if backbone.rotations else None
        images = read_images([self.pictures[row] for row in rows], backbone.input_size, angles)
        levels = extract_batch(model, images, self.recipe, self.device)
        return [as_fp16(x, backbone.name, name) for x, name in zip(levels, self.recipe.arrays, strict=True)]

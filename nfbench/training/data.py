"""Training images of a run: normal images split into training and held-out ones, and anomalies, in batches."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nfbench.blocks.features import Features
from nfbench.blocks.method import Batch
from nfbench.core.device import free_memory
from nfbench.core.errors import NfbenchError
from nfbench.core.provenance import derive_seed
from nfbench.features.batches import (
    BATCH,
    CachedFeatures,
    Source,
    begin_batch,
    begin_rows,
    prefetched,
    read_batches,
)
from nfbench.features.shards import StoredArray
from nfbench.features.stacked import StackedArrays

__all__ = ["CachedImages", "CachedViews", "JoinedSources", "Passes", "TrainingData", "split_rows"]

_RESIDENT_SHARE = 0.5
_DRAWS = 2**62


class CachedImages(Source):
    """Features of images, unchanged.

    Args:
        features: features of ``N`` images, or of rotated views of each.
        device: where features are wanted.
        masks: ``(N, H, W)`` uint8, 255 where anomalous; None for normal images.
    """

    def __init__(self, features: CachedFeatures, device: torch.device, masks: np.ndarray | None = None) -> None:
        self.features, self.device, self.masks = features, device, masks

    def __len__(self) -> int:
        return len(self.features)

    def begin(
        self, indices: Tensor, draws: Tensor, pool: Executor
    ) -> Callable[[], tuple[Features[Tensor], Tensor | None]]:
        """See ``Source``; this source draws nothing at random."""
        return _begin(self.features, self.masks, indices, self.device, pool)


class CachedViews(Source):
    """Features of one of ``K`` cached views of each image, chosen at random.

    Args:
        features: ``(N, K, ...)`` each.
        masks: ``(N, K, H, W)`` uint8.
        device: where features are wanted.
        resident: keep the features in memory if they fit.
    """

    def __init__(
        self, features: Features[np.ndarray], masks: np.ndarray, device: torch.device, *, resident: bool = True
    ) -> None:
        flat = features.map(lambda part: part.reshape(-1, *part.shape[2:]))
        mapped: CachedFeatures = flat if resident else flat.map(lambda part: StackedArrays([part]))
        self.features = _resident(mapped, device) if resident else mapped
        self.n_images, self.n_views = masks.shape[:2]
        self.masks = StackedArrays([masks.reshape(-1, *masks.shape[2:])])
        self.device = device

    def __len__(self) -> int:
        return self.n_images

    def begin(
        self, indices: Tensor, draws: Tensor, pool: Executor
    ) -> Callable[[], tuple[Features[Tensor], Tensor | None]]:
        """See ``Source``."""
        return _begin(self.features, self.masks, indices * self.n_views + draws % self.n_views, self.device, pool)


class JoinedSources(Source):
    """Images of several sources as one source.

    Args:
        sources: sources in order.
        device: where features are wanted.
    """

    def __init__(self, sources: Sequence[Source], device: torch.device) -> None:
        self.sources, self.device = list(sources), device
        self.first = np.cumsum([0, *map(len, self.sources)]).tolist()

    def __len__(self) -> int:
        return self.first[-1]

    def begin(
        self, indices: Tensor, draws: Tensor, pool: Executor
    ) -> Callable[[], tuple[Features[Tensor], Tensor | None]]:
        """See ``Source``; images are read source by source, for any order of ``indices``."""
        begun = []
        for source, first, last in zip(self.sources, self.first, self.first[1:], strict=False):
            own = (indices >= first) & (indices < last)
            if own.any():
                begun.append(source.begin(indices[own] - first, draws[own], pool))
        return lambda: self._join([end() for end in begun])

    def _join(self, parts: Sequence[tuple[Features[Tensor], Tensor | None]]) -> tuple[Features[Tensor], Tensor | None]:
        features = Features.join([found for found, _ in parts], torch.cat)
        with_masks = [masks for _, masks in parts if masks is not None]
        if not with_masks:
            return features, None
        side = with_masks[0].shape[1:]
        masks = [found if found is not None else torch.zeros(len(x), *side, device=self.device) for x, found in parts]
        return features, torch.cat(masks)


class TrainingData:
    """Training images with a seeded split and a seeded order for each epoch.

    Images are split, so all tiles of an image are either trained on or held out. Batches have rows: images, or tiles.

    Args:
        features: cached features of the normal images; see ``CachedImages``.
        val_fraction: share of images to hold out.
        seed: determines the split, the order and all random draws.
        device: where batches are wanted.
        images: source of the normal images in training batches; by default ``features``.
        anomalies: sources of anomalous images, with the number of times that each image appears in an epoch.

    Features in ``StackedArrays`` are read on demand; other features are kept in memory if they fit.

    Raises:
        NfbenchError: there are no images, or ``val_fraction`` leaves none to train on.
    """

    def __init__(
        self,
        features: CachedFeatures,
        val_fraction: float,
        seed: int,
        device: torch.device,
        images: Source | None = None,
        anomalies: Sequence[tuple[Source, int]] = (),
    ) -> None:
        self.device = device
        self.seed = seed
        self.tiling = features.tiling
        self.train, self.val = split_rows(features.n_images, val_fraction, seed)
        self.features = _resident(features, device)
        normal = images or CachedImages(self.features, device)
        self.source = JoinedSources([normal, *(source for source, _ in anomalies)], device)
        joined = [
            first + torch.arange(len(source)).repeat(times)
            for first, (source, times) in zip(self.source.first[1:], anomalies, strict=False)
        ]
        self.items = torch.cat([self.rows(self.train), *joined])

    def rows(self, images: Tensor) -> Tensor:
        """Rows of the features of normal images, by number; several for each image where images are cut into tiles."""
        return images if self.tiling is None else torch.tensor(self.tiling.rows(images), dtype=torch.long)

    def batches(self, epoch: int, batch_size: int, drop_last: bool) -> Iterator[Batch]:
        """Batches of an epoch in its own random order, read ahead; at least one, even if it is an incomplete one."""
        order = self.items[torch.randperm(len(self.items), generator=_generator(self.seed, "order", epoch))]
        draws = torch.randint(_DRAWS, (len(order),), generator=_generator(self.seed, "draws", epoch))
        size = min(batch_size, len(order))
        parts = zip(order.split(size), draws.split(size), strict=True)
        wanted = [part for part in parts if not drop_last or len(part[0]) == size]
        for found in prefetched(lambda part, pool: self.source.begin(*part, pool), wanted, size):
            yield Batch(*found)

    @property
    def passes(self) -> "Passes":
        """Return passes over the cached features of the normal training images."""
        return Passes(self, self.rows(self.train))

    def ordered(self, indices: Tensor, batch_size: int = BATCH) -> Iterator[Features[Tensor]]:
        """Batches of the rows ``indices`` of normal images, in order."""
        return read_batches(self.features, indices, self.device, batch_size)

    def n_batches(self, batch_size: int, drop_last: bool) -> int:
        """Number of batches of an epoch."""
        size = min(batch_size, len(self.items))
        return len(self.items) // size if drop_last else -(-len(self.items) // size)

    def generator(self, *names: object) -> torch.Generator:
        """Return a generator on the device for one training step; equal names give equal draws."""
        return torch.Generator(self.device).manual_seed(derive_seed(self.seed, *names))


@dataclass(frozen=True)
class Passes:
    """Passes over the rows ``rows`` of normal images, ``(N,)``; see ``nfbench.blocks.method.Passes``."""

    data: TrainingData
    rows: Tensor

    def __call__(self) -> Iterator[Features[Tensor]]:
        """All images in order, batch by batch."""
        return self.data.ordered(self.rows)

    def shuffled(self, number: int, batch_size: int) -> Iterator[Features[Tensor]]:
        """All images in a random order that ``number`` determines."""
        drawn = torch.randperm(len(self.rows), generator=_generator(self.data.seed, "passes", number))
        return self.data.ordered(self.rows[drawn], batch_size)

    def generator(self, *names: object) -> torch.Generator:
        """Generator seeded by the training's seed and ``names``."""
        return self.data.generator("passes", *names)


def split_rows(n_images: int, val_fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """Rows of the images to train on and of those held out, ascending; errors as for ``held_out_count``."""
    shuffled = torch.randperm(n_images, generator=_generator(seed, "split"))
    n_val = held_out_count(n_images, val_fraction)
    return shuffled[n_val:].sort().values, shuffled[:n_val].sort().values


def held_out_count(n_images: int, val_fraction: float) -> int:
    """Number of normal training images to hold out: the rounded share, but at least one unless the share is 0.

    Raises:
        NfbenchError: no image would be left to train on.
    """
    if not n_images:
        raise NfbenchError("there are no normal training images; training needs at least one")
    n_val = max(1, round(val_fraction * n_images)) if val_fraction else 0
    if n_val >= n_images:
        raise NfbenchError(
            f"'val_fraction' is {val_fraction:g} and holds out {n_val} of {n_images} normal training images, which "
            "leaves none to train on; lower it, set it to 0, or add images"
        )
    return n_val


def _resident(features: CachedFeatures, device: torch.device) -> CachedFeatures:
    """Features on the device if they fit in half of its free memory; otherwise still memory-mapped."""
    fits = sum(part.nbytes for part in features.parts()) < _RESIDENT_SHARE * free_memory(device)
    return features.map(lambda part: torch.from_numpy(np.array(part)).to(device)) if fits else features


def _begin(
    features: CachedFeatures, masks: StoredArray | None, rows: Tensor, device: torch.device, pool: Executor
) -> Callable[[], tuple[Features[Tensor], Tensor | None]]:
    """Start reading the features and masks of some rows."""
    found = begin_batch(features, rows, device, pool)
    if masks is None:
        return lambda: (found(), None)
    marked = begin_rows(masks, rows, device, pool)
    return lambda: (found(), marked().float() / 255)


def _generator(*names: object) -> torch.Generator:
    return torch.Generator().manual_seed(derive_seed(*names))

"""Batches of features: those of a cache, and those that are made when they are read."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from dataclasses import replace
from functools import cache
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from nfbench.blocks.features import Features
from nfbench.core.ahead import in_order
from nfbench.features.extractor import streams, thread_pool
from nfbench.features.live import LiveLevel
from nfbench.features.shards import StoredArray
from nfbench.features.stacked import StackedArrays

__all__ = [
    "BATCH",
    "CachedFeatures",
    "Source",
    "begin_batch",
    "begin_rows",
    "of_class",
    "prefetched",
    "read_batch",
    "read_batches",
]

BATCH = 16
"""Default number of images per batch."""

CachedFeatures = Features[StoredArray | Tensor]
"""Features of all images of a view as they are stored, or in memory; each array is indexed by image."""

T = TypeVar("T")
R = TypeVar("R")
_Live = dict[tuple[int, bytes], Callable[[], list[Tensor]]]


class Source(ABC):
    """Source of the features of some images."""

    @abstractmethod
    def __len__(self) -> int:
        """Number of images."""

    @abstractmethod
    def begin(
        self, indices: Tensor, draws: Tensor, pool: Executor
    ) -> Callable[[], tuple[Features[Tensor], Tensor | None]]:
        """Start to read images, with a thread pool where useful, and return a function that waits for them.

        Args:
            indices: ``(B,)``, the images.
            draws: ``(B,)``, random integers that determine all random choices.
            pool: of threads.

        Returns:
            A function that returns features as float32, and masks ``(B, H, W)`` if the images may be anomalous.
        """

    def read(self, indices: Tensor, draws: Tensor) -> tuple[Features[Tensor], Tensor | None]:
        """Read images; see ``begin``."""
        with thread_pool(torch.get_num_threads()) as pool:
            return self.begin(indices, draws, pool)()


def prefetched(begin: Callable[[T, Executor], Callable[[], R]], items: Iterable[T], size: int) -> Iterator[R]:
    """Begins batches of ``size`` images by a pool of threads while the ones before are used; in order.

    The next batch is begun, and of small batches enough to give each thread an image. The threads end with the
    iterator. What the work on a batch raises is raised in that batch's turn.
    """
    threads = torch.get_num_threads()
    with thread_pool(threads) as pool:
        yield from in_order(lambda item: begin(item, pool), items, ahead=1 + threads // size)


def of_class(features: Features[StoredArray], number: int) -> Features[StoredArray]:
    """Features of images of one class, with its number."""
    return replace(features, classes=np.full(len(features), number))


def read_batch(features: CachedFeatures, indices: Tensor, device: torch.device) -> Features[Tensor]:
    """Features of some images on the device, as float32; classes stay integers."""
    with thread_pool(torch.get_num_threads()) as pool:
        return begin_batch(features, indices, device, pool)()


def read_batches(
    features: CachedFeatures, indices: Tensor, device: torch.device, batch_size: int = BATCH
) -> Iterator[Features[Tensor]]:
    """Features of some images, in order, batch by batch, the next one read ahead; see ``read_batch``."""

    def begin(chunk: Tensor, pool: Executor) -> Callable[[], Features[Tensor]]:
        return begin_batch(features, chunk, device, pool)

    return prefetched(begin, indices.split(batch_size), batch_size)


def begin_batch(
    features: CachedFeatures, indices: Tensor, device: torch.device, pool: Executor
) -> Callable[[], Features[Tensor]]:
    """Start to read features of some images, and return a function that waits for them; see ``read_batch``."""
    live: _Live = {}
    begun = {id(part): _begin(part, indices, device, pool, live) for part in features.parts()}

    def end(part: StoredArray | Tensor) -> Tensor:
        rows = begun[id(part)]()
        return rows.float() if rows.is_floating_point() else rows

    return lambda: features.map(end)


def begin_rows(array: StoredArray, rows: Tensor, device: torch.device, pool: Executor) -> Callable[[], Tensor]:
    """Start to read rows ``(B,)`` of an array, unconverted, for a device.

    For a CPU nothing is read ahead. For another device a thread of the pool reads them into memory from which the
    device copies while it computes.
    """
    return _begin(array, rows, device, pool, {})


def _begin(
    array: StoredArray | Tensor, rows: Tensor, device: torch.device, pool: Executor, live: _Live
) -> Callable[[], Tensor]:
    """See ``begin_rows``; levels that are computed together are begun together, and noted in ``live``."""
    if isinstance(array, Tensor):
        return lambda: array.index_select(0, rows.to(array.device))
    if isinstance(array, LiveLevel):
        key = id(array.features), rows.numpy().tobytes()
        if key not in live:
            live[key] = cache(array.features.begin(rows.numpy(), pool))
        return lambda: live[key]()[array.number].to(device)
    if isinstance(array, StackedArrays) and array.computed:
        parts = [
            (own, _begin(part, torch.from_numpy(found), device, pool, live))
            for own, part, found in array.split(rows.numpy())
        ]
        order = torch.from_numpy(np.concatenate([own for own, _ in parts])).argsort()
        return lambda: torch.cat([part() for _, part in parts])[order.to(device)]
    if not streams(device):
        return lambda: torch.from_numpy(np.asarray(array[rows.numpy()]))
    task = pool.submit(_pinned, array, rows, device)
    return lambda: task.result().to(device, non_blocking=True)


def _pinned(array: StoredArray, rows: Tensor, device: torch.device) -> Tensor:
    found = torch.from_numpy(np.asarray(array[rows.numpy()]))
    return found.pin_memory() if device.type == "cuda" else found

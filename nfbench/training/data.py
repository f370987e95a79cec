"""Features of one run: split into training and held-out normal images, and handed out in batches."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from nfbench.features.online import OnlineFeatures
from nfbench.provenance import derive_seed

__all__ = ["TrainingData", "read_batch", "read_batches"]

_RESIDENT_SHARE = 0.5
_BATCH = 16


class TrainingData:
    """Training features with a seeded split and a seeded order for each epoch.

    They are held on the device where half of its free memory takes them, and read from the memory-mapped cache
    otherwise.

    Args:
        levels: arrays ``(N, C_l, H_l, W_l)``, or ``(N, K, C_l, H_l, W_l)`` of rotated views, fine to coarse.
        val_fraction: share of images held out.
        seed: decides the split and the order.
        device: where batches are wanted.
        online: where the features of training batches come from, instead of ``levels``.
    """

    def __init__(
        self,
        levels: Sequence[np.ndarray],
        val_fraction: float,
        seed: int,
        device: torch.device,
        online: OnlineFeatures | None = None,
    ) -> None:
        self.device = device
        self.seed = seed
        self.online = online
        n_images = len(levels[0])
        shuffled = torch.randperm(n_images, generator=_generator(seed, "split"))
        n_val = max(1, round(val_fraction * n_images)) if val_fraction else 0
        self.val = shuffled[:n_val].sort().values
        self.train = shuffled[n_val:].sort().values
        fits = sum(level.nbytes for level in levels) < _RESIDENT_SHARE * _free_memory(device)
        self.levels = [torch.from_numpy(np.array(level)).to(device) if fits else level for level in levels]

    def batches(self, epoch: int, batch_size: int, drop_last: bool) -> Iterator[list[Tensor]]:
        """Batches of one epoch in its own order; at least one, whatever the batch size."""
        order = self.train[torch.randperm(len(self.train), generator=_generator(self.seed, "order", epoch))]
        for chunk in _chunks(order, min(batch_size, len(order)), drop_last):
            if self.online is None:
                yield read_batch(self.levels, chunk, self.device)
            else:
                yield self.online.read(chunk.tolist(), epoch)

    def passes(self) -> Iterator[list[Tensor]]:
        """Batches of all training images in order, from the cache."""
        return self.ordered(self.train)

    def ordered(self, indices: Tensor, batch_size: int = _BATCH) -> Iterator[list[Tensor]]:
        """Batches of the images ``indices``, in order."""
        return read_batches(self.levels, indices, self.device, batch_size)

    def n_batches(self, batch_size: int, drop_last: bool) -> int:
        """Number of batches of an epoch."""
        size = min(batch_size, len(self.train))
        return len(self.train) // size if drop_last else -(-len(self.train) // size)

    def generator(self, *names: object) -> torch.Generator:
        """Draws on the device what is random in one step of the training; the same names give the same draws."""
        return torch.Generator(self.device).manual_seed(derive_seed(self.seed, *names))


def read_batch(levels: Sequence[Tensor | np.ndarray], indices: Tensor, device: torch.device) -> list[Tensor]:
    """Features of some images as float32 on the device, a tensor ``(B, C_l, H_l, W_l)`` per level."""
    if isinstance(levels[0], Tensor):
        return [level.index_select(0, indices.to(level.device)).float() for level in levels]
    return [torch.from_numpy(np.asarray(level[indices.numpy()])).to(device).float() for level in levels]


def read_batches(
    levels: Sequence[Tensor | np.ndarray], indices: Tensor, device: torch.device, batch_size: int = _BATCH
) -> Iterator[list[Tensor]]:
    """Features of some images, in order, batch by batch; see ``read_batch``."""
    return (read_batch(levels, chunk, device) for chunk in indices.split(batch_size))


def _chunks(indices: Tensor, size: int, drop_last: bool) -> Iterator[Tensor]:
    return (chunk for chunk in indices.split(size) if not drop_last or len(chunk) == size)


def _generator(*names: object) -> torch.Generator:
    return torch.Generator().manual_seed(derive_seed(*names))


def _free_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    import psutil

    return psutil.virtual_memory().available

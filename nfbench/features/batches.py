"""Batches of cached features."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from nfbench.features.stacked import StackedArrays

__all__ = ["BATCH", "Levels", "read_batch", "read_batches"]

BATCH = 16
"""Images of a batch where no setting says another number."""

Levels = Sequence[Tensor | np.ndarray | StackedArrays]
"""Features of images by level, each indexed by image."""


def read_batch(levels: Levels, indices: Tensor, device: torch.device) -> list[Tensor]:
    """Features of some images as float32 on the device, a tensor ``(B, C_l, H_l, W_l)`` per level."""
    if isinstance(levels[0], Tensor):
        return [level.index_select(0, indices.to(level.device)).float() for level in levels]
    return [torch.from_numpy(np.asarray(level[indices.numpy()])).to(device).float() for level in levels]


def read_batches(
    levels: Levels, indices: Tensor, device: torch.device, batch_size: int = BATCH
) -> Iterator[list[Tensor]]:
    """Features of some images, in order, batch by batch; see ``read_batch``."""
    return (read_batch(levels, chunk, device) for chunk in indices.split(batch_size))

"""Batches of cached features."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from nfbench.blocks.features import Features
from nfbench.features.shards import StoredArray

__all__ = ["BATCH", "CachedFeatures", "read_batch", "read_batches"]

BATCH = 16
"""Images of a batch where no setting says another number."""

CachedFeatures = Features[StoredArray | Tensor]
"""Features of all images of a view as they are stored, or in memory; each array is indexed by image."""


def read_batch(features: CachedFeatures, indices: Tensor, device: torch.device) -> Features[Tensor]:
    """Features of some images on the device, as float32; classes stay integers."""

    def read(part: StoredArray | Tensor) -> Tensor:
        if isinstance(part, Tensor):
            rows = part.index_select(0, indices.to(part.device))
        else:
            rows = torch.from_numpy(np.asarray(part[indices.numpy()])).to(device)
        return rows.float() if rows.is_floating_point() else rows

    return features.map(read)


def read_batches(
    features: CachedFeatures, indices: Tensor, device: torch.device, batch_size: int = BATCH
) -> Iterator[Features[Tensor]]:
    """Features of some images, in order, batch by batch; see ``read_batch``."""
    return (read_batch(features, chunk, device) for chunk in indices.split(batch_size))

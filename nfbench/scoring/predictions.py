"""Maps that a method predicts in addition to its anomaly map, for figures."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from nfbench.blocks.features import Features
from nfbench.blocks.method import Method
from nfbench.features.batches import CachedFeatures, read_batches
from nfbench.scoring.stitching import merge_tiles

__all__ = ["PredictsVariances", "predicted_variances"]


@runtime_checkable
class PredictsVariances(Protocol):
    """A method that predicts variances of an image's positions."""

    def predicted_variances(self, features: Features[Tensor]) -> Tensor | None:
        """Variances ``(B, H, W)`` at any resolution, None where they are fixed."""


@torch.inference_mode()
def predicted_variances(
    method: Method, features: CachedFeatures, device: torch.device, rows: Sequence[int]
) -> np.ndarray | None:
    """Return predicted variances ``(N, H, W)`` float32 of some images; None without images or for other methods."""
    if not isinstance(method, PredictsVariances) or not len(rows):
        return None
    batches = read_batches(features, torch.as_tensor(features.rows(rows), dtype=torch.long), device)
    found = [values.float().cpu() for batch in batches if (values := method.predicted_variances(batch)) is not None]
    if found and features.tiling is not None:
        parts = [(values, torch.zeros(len(values))) for values in found]
        found = [maps for maps, _ in merge_tiles(parts, features.tiling.select(rows), None) if maps is not None]
    return torch.cat(found).numpy() if found else None

"""Features of randomly rotated images, extracted when they are asked for: augmentation that no cache can hold."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from nfbench.datasets.manifest import Entry
from nfbench.features.extract import extract_batch, read_images, thread_pool
from nfbench.features.recipe import Recipe
from nfbench.provenance import derive_seed

__all__ = ["OnlineFeatures"]


class OnlineFeatures:
    """Draws a rotation for each image and epoch.

    Args:
        entries: images, in the order of the cache.
        meta: description of the cache whose recipe is followed.
        degrees: rotations are uniform in ``[-degrees, degrees]``.
        views: rotated views of each image; None for one, without an axis of its own.
        seed: decides the angles, with the epoch and the image.
        device: where features are computed and wanted.

    Raises:
        NfbenchError: the weights cannot be had, or are not those of the cache.
    """

    def __init__(
        self,
        entries: Sequence[Entry],
        meta: Mapping[str, Any],
        degrees: float,
        views: int | None,
        seed: int,
        device: torch.device,
    ) -> None:
        self.entries = entries
        self.recipe = Recipe.from_meta(meta)
        self.degrees = degrees
        self.views = views
        self.seed = seed
        self.device = device
        self.model = self.recipe.load_extractor(meta["weights_sha256"]).to(device, memory_format=torch.channels_last)

    def read(self, indices: Sequence[int], epoch: int) -> list[Tensor]:
        """Features of some images as float32, ``(B, C_l, H_l, W_l)`` a level, ``(B, K, C_l, H_l, W_l)`` of views."""

        @torch.inference_mode()
        def forward(index: int) -> list[Tensor]:
            images = read_images([self.entries[index]], self.recipe.input_size, [self.angles(index, epoch)])
            return extract_batch(self.model, images, self.recipe, self.device)

        with thread_pool(torch.get_num_threads()) as pool:
            levels = [torch.cat(level) for level in zip(*pool.map(forward, indices), strict=True)]
        return levels if self.views else [level[:, 0] for level in levels]

    def angles(self, index: int, epoch: int) -> list[float]:
        """Angles of one image in one epoch, in degrees."""
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "angle", epoch, index))
        drawn = torch.rand(self.views or 1, generator=generator)
        return (self.degrees * (2 * drawn - 1)).tolist()

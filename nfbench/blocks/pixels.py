"""Conversion between normalized images, which methods read, and pixels in [0, 1]."""

import torch
from torch import Tensor, nn

from nfbench.backbones._base import find_backbone

__all__ = ["Pixels"]


class Pixels(nn.Module):
    """The image normalization of a backbone; it has no state.

    Args:
        backbone: name of the backbone.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: str) -> None:
        super().__init__()
        described = find_backbone(backbone)
        self.register_buffer("mean", torch.tensor(described.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(described.std).view(3, 1, 1), persistent=False)

    def of(self, images: Tensor) -> Tensor:
        """Convert normalized images ``(B, 3, H, W)`` to pixels in [0, 1]."""
        return images * self.std + self.mean

    def normalized(self, pixels: Tensor) -> Tensor:
        """Normalize pixels in [0, 1], ``(B, 3, H, W)``."""
        return (pixels - self.mean) / self.std

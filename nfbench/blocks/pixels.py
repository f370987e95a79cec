"""Between the normalized image, which methods read, and pixels in [0, 1]."""

import torch
from torch import Tensor, nn

from nfbench.backbones._base import find_backbone

__all__ = ["Pixels"]


class Pixels(nn.Module):
    """The normalization of a backbone's images; has no state.

    Args:
        backbone: its name.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: str) -> None:
        super().__init__()
        described = find_backbone(backbone)
        self.register_buffer("mean", torch.tensor(described.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(described.std).view(3, 1, 1), persistent=False)

    def of(self, images: Tensor) -> Tensor:
        """Normalized images ``(B, 3, H, W)`` to pixels in [0, 1]."""
        return images * self.std + self.mean

    def normalized(self, pixels: Tensor) -> Tensor:
        """Inverse of the normalization."""
        return (pixels - self.mean) / self.std

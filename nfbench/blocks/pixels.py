"""Between the normalized image, which methods read, and pixels in [0, 1]."""

import torch
from torch import Tensor, nn

from nfbench.backbones._base import IMAGENET_MEAN, IMAGENET_STD

__all__ = ["Pixels"]


class Pixels(nn.Module):
    """The normalization that networks with weights from ImageNet take; has no state."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1), persistent=False)

    def of(self, images: Tensor) -> Tensor:
        """Normalized images ``(B, 3, H, W)`` to pixels in [0, 1]."""
        return images * self.std + self.mean

    def normalized(self, pixels: Tensor) -> Tensor:
        """The way back."""
        return (pixels - self.mean) / self.std

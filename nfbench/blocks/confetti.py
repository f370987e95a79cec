"""Confetti on batches of images: soft squares of other colours (Liznerski et al., ICLR 2021, arXiv 2007.01760)."""

import math

import torch
from torch import Tensor

from nfbench.blocks.maps import smooth

__all__ = ["add_confetti"]

_SIDE = 224
_SIZES = (8, 54)
_TURN = 45
_SIGMA = 5.0
_SQUARES = 4
_OTHERS = 1 / 6
"""Probability of each square after the first; the mean number of squares is 1.5."""
_BLACK = 0.4


def add_confetti(images: Tensor, generator: torch.Generator) -> Tensor:
    """Add 1 to 4 squares to each image, ``(B, 3, H, W)`` in [0, 1].

    In an image of 224 pixels, the sides of a square are 8 to 54 pixels long; it is rotated by up to 45 degrees, and a
    Gaussian of 5 pixels blurs its border. A square darkens each colour by up to 1; two squares in five darken all
    colours by 1. A square brightens the image instead where clipping would remove more than half of the change.
    """
    height, width = images.shape[2:]
    scale = min(height, width) / _SIDE
    draws = torch.rand(9, images.shape[0], _SQUARES, 1, 1, generator=generator, device=generator.device)
    size, turn, row, column, present, black = draws[:6]
    x = torch.arange(width, device=images.device) + 0.5 - column * width
    y = torch.arange(height, device=images.device)[:, None] + 0.5 - row * height
    angle = math.radians(_TURN) * (2 * turn - 1)
    half = 0.5 * scale * (_SIZES[0] + size * (_SIZES[1] - _SIZES[0]))
    inside = (angle.cos() * x + angle.sin() * y).abs() <= half
    inside &= (angle.cos() * y - angle.sin() * x).abs() <= half
    first = torch.arange(_SQUARES, device=images.device).view(-1, 1, 1) == 0
    shown = inside & (first | (present < _OTHERS))
    colors = torch.where(black < _BLACK, 1.0, draws[6:])
    darker = (shown * colors).amax(2).transpose(0, 1)
    darker = smooth(darker.flatten(0, 1), scale * _SIGMA).view_as(images)
    dark, bright = (images - darker).clamp(0, 1), (images + darker).clamp(0, 1)
    taken = (images - dark).mean((1, 2, 3), keepdim=True)
    return torch.where(taken < darker.mean((1, 2, 3), keepdim=True) / 2, bright, dark)

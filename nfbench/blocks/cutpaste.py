"""CutPaste and scars on batches of images, on the device in each step (Li et al., CVPR 2021, arXiv 2104.04015).

A rectangle of an image is pasted elsewhere in the image, with slightly changed colours and hard edges. The generator
``nfbench.anomalies.cutpaste`` makes single images before or during training. Here, a method makes several variants of a
batch and labels them.
"""

import math

import torch
from torch import Tensor

from nfbench.blocks.augmentation import jitter_colors, uniform

__all__ = ["Rectangles", "cut_paste", "draw_patches", "draw_scars"]

_AREA = (0.02, 0.15)
_ASPECT = (0.3, 3.3)
_SIDE = 256
_SCAR_WIDTH, _SCAR_LENGTH, _SCAR_ANGLE = (2, 16), (10, 25), 45

Rectangles = tuple[Tensor, Tensor, Tensor]
"""Width, height and angle (radians) of a rectangle in each image, each ``(B, 1, 1)``, sizes in pixels."""


def draw_patches(images: Tensor, generator: torch.Generator) -> Rectangles:
    """CutPaste: 2 to 15 % of the image, log-uniform aspect ratios of 0.3 to 3.3, no rotation.

    In an image that is not square, the aspect ratio is limited so that the patch fits.
    """
    height, width = images.shape[2:]
    area, aspect = uniform(images, 2, generator)
    size = (height * width * _within(area, _AREA)).sqrt()
    root = (0.5 * _within(aspect, (math.log(_ASPECT[0]), math.log(_ASPECT[1])))).exp()
    root = root.clamp(size / height, width / size)
    return size * root, size / root, torch.zeros_like(size)


def draw_scars(images: Tensor, generator: torch.Generator) -> Rectangles:
    """Scars: 2 to 16 by 10 to 25 pixels of an image of 256 pixels, rotated by up to 45 degrees."""
    width, length, angle = uniform(images, 3, generator)
    scale, turn = min(images.shape[2:]) / _SIDE, math.radians(_SCAR_ANGLE)
    sizes = (scale * _within(width, _SCAR_WIDTH), scale * _within(length, _SCAR_LENGTH))
    return (*sizes, _within(angle, (-turn, turn)))


def cut_paste(images: Tensor, rectangles: Rectangles, jitter: float, generator: torch.Generator) -> Tensor:
    """Cut a rectangle from a random place of each image, rotate it, and paste it at another place.

    Args:
        images: ``(B, 3, H, W)`` in [0, 1].
        rectangles: one for each image.
        jitter: strength of the colour changes of the rectangle; see ``jitter_colors``.
        generator: draws the places.
    """
    height, width = images.shape[2:]
    wide, high, angle = rectangles
    cos, sin = angle.cos(), angle.sin()
    from_x, from_y, to_x, to_y = uniform(images, 4, generator)
    across, down = wide * cos.abs() + high * sin.abs(), wide * sin.abs() + high * cos.abs()
    x = torch.arange(width, device=images.device) + 0.5 - (across / 2 + to_x * (width - across))
    y = torch.arange(height, device=images.device)[:, None] + 0.5 - (down / 2 + to_y * (height - down))
    along, beside = cos * x + sin * y, cos * y - sin * x
    inside = (along.abs() <= wide / 2) & (beside.abs() <= high / 2)
    source_x = (along + wide / 2 + from_x * (width - wide)).long().clamp(0, width - 1)
    source_y = (beside + high / 2 + from_y * (height - high)).long().clamp(0, height - 1)
    places = (source_y * width + source_x).flatten(1)[:, None].expand(-1, 3, -1)
    cut = images.flatten(2).gather(2, places).view_as(images)
    return torch.where(inside[:, None], jitter_colors(cut, jitter, generator), images)


def _within(share: Tensor, bounds: tuple[float, float]) -> Tensor:
    return bounds[0] + share * (bounds[1] - bounds[0])

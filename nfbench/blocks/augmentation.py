"""Random augmentation of batches on the device, with separate draws for each image."""

import math

import torch
from torch import Tensor

__all__ = ["jitter_colors", "rotate", "uniform"]

_LUMA = (0.299, 0.587, 0.114)


def jitter_colors(images: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Change brightness, contrast, saturation and hue of each image, ``(B, 3, H, W)`` in [0, 1], in this order.

    The first three are multiplied by a factor from ``[1 - strength, 1 + strength]``; the hue is rotated about the grey
    axis by a share of the circle from ``[-strength, strength]``.
    """
    draws = [draw[..., None] for draw in uniform(images, 4, generator)]
    brightness, contrast, saturation = (1 + strength * (2 * draw - 1) for draw in draws[:3])
    images = (brightness * images).clamp(0, 1)
    middle = _grey(images).mean((2, 3), keepdim=True)
    images = (middle + contrast * (images - middle)).clamp(0, 1)
    grey = _grey(images)
    images = (grey + saturation * (images - grey)).clamp(0, 1)
    turn = 2 * math.pi * strength * (2 * draws[3] - 1)
    mean = images.mean(1, keepdim=True)
    crossed = (images.roll(1, 1) - images.roll(-1, 1)) / math.sqrt(3)
    return (mean + turn.cos() * (images - mean) + turn.sin() * crossed).clamp(0, 1)


def rotate(images: Tensor, degrees: float, generator: torch.Generator) -> Tensor:
    """Rotate each image, ``(B, 3, H, W)``, by up to ``degrees`` with nearest-pixel sampling; 0 fills the corners."""
    if not degrees:
        return images
    height, width = images.shape[2:]
    (draw,) = uniform(images, 1, generator)
    angle = math.radians(degrees) * (2 * draw - 1)
    x = torch.arange(width, device=images.device) - (width - 1) / 2
    y = torch.arange(height, device=images.device)[:, None] - (height - 1) / 2
    source_x = (angle.cos() * x + angle.sin() * y + width / 2).floor().long()
    source_y = (angle.cos() * y - angle.sin() * x + height / 2).floor().long()
    inside = (source_x >= 0) & (source_x < width) & (source_y >= 0) & (source_y < height)
    places = (source_y.clamp(0, height - 1) * width + source_x.clamp(0, width - 1)).flatten(1)
    found = images.flatten(2).gather(2, places[:, None].expand(-1, images.shape[1], -1)).view_as(images)
    return torch.where(inside[:, None], found, 0)


def uniform(images: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """``count`` draws from [0, 1) for each image, each ``(B, 1, 1)``."""
    return torch.rand(count, len(images), 1, 1, generator=generator, device=generator.device)


def _grey(images: Tensor) -> Tensor:
    red, green, blue = images.split(1, 1)
    return _LUMA[0] * red + _LUMA[1] * green + _LUMA[2] * blue

"""CutPaste and scars on batches of images, made on the device in each step (Li et al., CVPR 2021, arXiv 2104.04015).

A rectangle of an image is pasted elsewhere in it, in slightly other colours and with hard edges. The generator
``nfbench.anomalies.cutpaste`` makes images one by one before a training or beside it; here a method makes several
variants of a batch, and knows which is which.
"""

import math

import torch
from torch import Tensor

__all__ = ["Rectangles", "cut_paste", "draw_patches", "draw_scars", "jitter_colors", "rotate"]

_AREA = (0.02, 0.15)
_ASPECT = (0.3, 3.3)
_SIDE = 256
_SCAR_WIDTH, _SCAR_LENGTH, _SCAR_ANGLE = (2, 16), (10, 25), 45
_LUMA = (0.299, 0.587, 0.114)

Rectangles = tuple[Tensor, Tensor, Tensor]
"""Width, height and angle (radians) of a rectangle in each image, each ``(B, 1, 1)``, sizes in pixels."""


def draw_patches(images: Tensor, generator: torch.Generator) -> Rectangles:
    """CutPaste: 2 to 15 % of the image, sides in a ratio of 0.3 to 3.3, uniform in its logarithm; not turned."""
    area, aspect = _uniform(images, 2, generator)
    size = (images.shape[2] * images.shape[3] * _within(area, _AREA)).sqrt()
    root = (0.5 * _within(aspect, (math.log(_ASPECT[0]), math.log(_ASPECT[1])))).exp()
    return size * root, size / root, torch.zeros_like(size)


def draw_scars(images: Tensor, generator: torch.Generator) -> Rectangles:
    """Scars: 2 to 16 by 10 to 25 pixels of an image of 256 pixels, turned by up to 45 degrees."""
    width, length, angle = _uniform(images, 3, generator)
    scale, turn = min(images.shape[2:]) / _SIDE, math.radians(_SCAR_ANGLE)
    sizes = (scale * _within(width, _SCAR_WIDTH), scale * _within(length, _SCAR_LENGTH))
    return (*sizes, _within(angle, (-turn, turn)))


def cut_paste(images: Tensor, rectangles: Rectangles, jitter: float, generator: torch.Generator) -> Tensor:
    """Pastes a rectangle of each image, cut from a random place, at another one, turned.

    Args:
        images: ``(B, 3, H, W)`` in [0, 1].
        rectangles: one for each image.
        jitter: of the rectangle's colours, see ``jitter_colors``.
        generator: draws the places.
    """
    height, width = images.shape[2:]
    wide, high, angle = rectangles
    cos, sin = angle.cos(), angle.sin()
    from_x, from_y, to_x, to_y = _uniform(images, 4, generator)
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


def jitter_colors(images: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Changes brightness, contrast, saturation and hue of each image, ``(B, 3, H, W)`` in [0, 1], in this order.

    The first three are multiplied by a factor from ``[1 - strength, 1 + strength]``; the hue is turned about the axis
    of greys by a share of the circle from ``[-strength, strength]``.
    """
    draws = [draw[..., None] for draw in _uniform(images, 4, generator)]
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
    """Turns each image, ``(B, 3, H, W)``, by up to ``degrees``, by the nearest pixel; 0 fills the corners."""
    if not degrees:
        return images
    height, width = images.shape[2:]
    (draw,) = _uniform(images, 1, generator)
    angle = math.radians(degrees) * (2 * draw - 1)
    x = torch.arange(width, device=images.device) - (width - 1) / 2
    y = torch.arange(height, device=images.device)[:, None] - (height - 1) / 2
    source_x = (angle.cos() * x + angle.sin() * y + width / 2).floor().long()
    source_y = (angle.cos() * y - angle.sin() * x + height / 2).floor().long()
    inside = (source_x >= 0) & (source_x < width) & (source_y >= 0) & (source_y < height)
    places = (source_y.clamp(0, height - 1) * width + source_x.clamp(0, width - 1)).flatten(1)
    found = images.flatten(2).gather(2, places[:, None].expand(-1, images.shape[1], -1)).view_as(images)
    return torch.where(inside[:, None], found, 0)


def _grey(images: Tensor) -> Tensor:
    red, green, blue = images.split(1, 1)
    return _LUMA[0] * red + _LUMA[1] * green + _LUMA[2] * blue


def _uniform(images: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """``count`` draws from [0, 1) for each image, each ``(B, 1, 1)``."""
    return torch.rand(count, len(images), 1, 1, generator=generator, device=generator.device)


def _within(share: Tensor, bounds: tuple[float, float]) -> Tensor:
    return bounds[0] + share * (bounds[1] - bounds[0])

"""Resizing and averaging of maps with deterministic gradients on a GPU.

Gradients of torch's operations are not deterministic on a GPU; its deterministic mode gathers and sorts, which is many
times slower. On a GPU, this module multiplies by one matrix per axis instead; results are equal up to rounding.
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["Resampling", "resampled"]

Resampling = Literal["average", "bilinear", "bilinear_aligned"]
"""Adaptive average pooling, or bilinear interpolation; ``aligned`` is torch's ``align_corners=True``."""


def resampled(x: Tensor, size: tuple[int, int], by: Resampling) -> Tensor:
    """Resize maps ``(B, C, H, W)``, with reproducible gradients."""
    if tuple(x.shape[2:]) == size:
        return x
    if not _is_repeatable(x):
        rows, columns = (_matrix(*sizes, by, x) for sizes in zip(x.shape[2:], size, strict=True))
        return rows @ x @ columns.T
    if by == "average":
        return functional.adaptive_avg_pool2d(x, size)
    return functional.interpolate(x, size, mode="bilinear", align_corners=by == "bilinear_aligned")


def _is_repeatable(x: Tensor) -> bool:
    """Return whether gradients of torch's operations are reproducible on the device of ``x``."""
    return x.is_cpu


def _matrix(before: int, after: int, by: Resampling, like: Tensor) -> Tensor:
    """Matrix ``(after, before)`` that resamples a line."""
    eye = torch.eye(before, dtype=like.dtype, device=like.device)[None]
    if by == "average":
        return functional.adaptive_avg_pool1d(eye, after)[0].T
    return functional.interpolate(eye, after, mode="linear", align_corners=by == "bilinear_aligned")[0].T

"""Two-dimensional sinusoidal position code, the condition of the flows of CFLOW-AD and its descendants.

With ``P`` channels and ``w_i = 10000^(-2i / (P/2))`` for ``i = 0 .. P/4 - 1``: the first ``P/2`` channels are
``sin(w_i x), cos(w_i x)`` in turn, with ``x`` the column; the other half is the same for the row ``y``.
"""

import torch
from torch import Tensor

__all__ = ["sinusoidal_code"]

_BASE = 1e4


def sinusoidal_code(channels: int, height: int, width: int) -> Tensor:
    """Code of each position of a grid, ``(channels, height, width)`` float32.

    Raises:
        ValueError: 4 does not divide ``channels``.
    """
    if channels % 4:
        raise ValueError(f"'channels' must be divisible by 4 for sine and cosine of two axes, got {channels}")
    half = channels // 2
    code = torch.empty(channels, height, width, dtype=torch.float64, device="cpu")
    code[:half] = _code(half, width)[:, None, :]
    code[half:] = _code(half, height)[:, :, None]
    return code.float().to(torch.get_default_device())


def _code(channels: int, length: int) -> Tensor:
    """Code of ``0 .. length - 1``, ``(channels, length)``."""
    frequencies = _BASE ** (-torch.arange(0, channels, 2, dtype=torch.float64, device="cpu") / channels)
    angles = frequencies[:, None] * torch.arange(length, dtype=torch.float64, device="cpu")
    return torch.stack([angles.sin(), angles.cos()], dim=1).flatten(0, 1)

"""Changes for exported graphs: batches of any size, and types that runtimes support."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

__all__ = ["full_precision", "narrowed", "parts_of"]


def parts_of(x: Tensor, size: int) -> Sequence[Tensor]:
    """Rows of ``x`` in parts of ``size`` to bound memory; all rows at once in a graph, whose batch size is dynamic."""
    return (x,) if torch.compiler.is_exporting() else x.split(size)


def narrowed(x: Tensor) -> Tensor:
    """Return ``x``, in float32 in a graph: ONNX Runtime cannot resize or convolve float64."""
    return x.float() if torch.compiler.is_exporting() else x


def full_precision(x: Tensor) -> AbstractContextManager[None]:
    """Context without autocast on the device of ``x``; exported graphs have none."""
    return nullcontext() if torch.compiler.is_exporting() else torch.autocast(x.device.type, enabled=False)

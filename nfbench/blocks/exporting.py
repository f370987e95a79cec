"""Changes for exported graphs: batches of any size, and types that runtimes support."""

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["narrowed", "parts_of"]


def parts_of(x: Tensor, size: int) -> Sequence[Tensor]:
    """Rows of ``x`` in parts of ``size`` to bound memory; all rows at once in a graph, whose batch size is dynamic."""
    return (x,) if torch.compiler.is_exporting() else x.split(size)


def narrowed(x: Tensor) -> Tensor:
    """Return ``x``, in float32 in a graph: ONNX Runtime cannot resize or convolve float64."""
    return x.float() if torch.compiler.is_exporting() else x

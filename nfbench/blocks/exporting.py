"""Changes during the export of a graph: batches of any size, and types that runtimes support."""

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["narrowed", "parts_of"]


def parts_of(x: Tensor, size: int) -> Sequence[Tensor]:
    """Rows of ``x`` in parts of ``size``, which bound the memory; in a graph, whose batch is open, all at once."""
    return (x,) if torch.compiler.is_exporting() else x.split(size)


def narrowed(x: Tensor) -> Tensor:
    """``x`` itself; in a graph float32, since ONNX Runtime resizes and convolves no float64."""
    return x.float() if torch.compiler.is_exporting() else x

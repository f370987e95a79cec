"""Features of several categories as one array; only what is read takes memory."""

import sys
from collections.abc import Sequence
from functools import partial

import numpy as np

from nfbench.features.live import LiveLevel
from nfbench.features.shards import Shards, StoredArray

__all__ = ["StackedArrays"]


class StackedArrays(Shards):
    """Arrays one after another along their first axis.

    Memory-mapped arrays are mapped again for each read, so that its pages are released afterwards and the
    process does not grow.

    Args:
        arrays: ``(N_i, ...)``, alike but for their length.

    Attributes:
        computed: whether they are computed when they are read.
    """

    nbytes = sys.maxsize
    """The largest integer, so that readers never keep a level in memory."""

    def __init__(self, arrays: Sequence[StoredArray]) -> None:
        loads = [partial(_map, array) for array in arrays]
        super().__init__(loads, list(map(len, arrays)), arrays[0].shape[1:], arrays[0].dtype)
        self.computed = isinstance(arrays[0], LiveLevel)

    def _open(self, shard: int) -> StoredArray:
        return self._loads[shard]()


def _map(array: StoredArray) -> StoredArray:
    if not isinstance(array, np.memmap) or array.filename is None:
        return array
    return np.memmap(array.filename, array.dtype, "r", array.offset, array.shape)

"""Features of several categories as one array, of which only what is read takes memory."""

from collections.abc import Sequence

import numpy as np

__all__ = ["StackedArrays"]


class StackedArrays:
    """Arrays one after another along their first axis.

    Memory-mapped ones are mapped anew for each reading, so that the pages of a reading are given back after it and the
    process does not grow with what it has seen.

    Args:
        arrays: ``(N_i, ...)``, alike but for their length.
    """

    def __init__(self, arrays: Sequence[np.ndarray]) -> None:
        self.arrays = list(arrays)
        self.first = np.cumsum([0, *map(len, self.arrays)])

    def __len__(self) -> int:
        return int(self.first[-1])

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """Copies of the rows ``(B,)``, in their order."""
        like = self.arrays[0]
        found = np.empty((len(rows), *like.shape[1:]), like.dtype)
        part = np.searchsorted(self.first, rows, side="right") - 1
        for number in np.unique(part):
            mine = part == number
            found[mine] = _map(self.arrays[number])[rows[mine] - self.first[number]]
        return found


def _map(array: np.ndarray) -> np.ndarray:
    if not isinstance(array, np.memmap):
        return array
    return np.memmap(array.filename, array.dtype, "r", array.offset, array.shape)

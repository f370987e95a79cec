"""Arrays that may be larger than memory: large ones are mapped from files and read in parts.

The files have no name, so they disappear with their array, even if the process is killed.
"""

import math
import mmap
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import DTypeLike

from nfbench.core.files import full_disk

__all__ = ["LARGE", "empty", "parts", "release", "save", "stored", "walk"]

LARGE = 1 << 29
"""Arrays of more bytes are mapped from a file."""

_PART = 1 << 28


def empty(shape: Sequence[int], dtype: DTypeLike, folder: Path | None = None) -> np.ndarray:
    """An uninitialized array; one of more than ``LARGE`` bytes is mapped from a file.

    Args:
        shape: of the array.
        dtype: of the array.
        folder: of the file, created if missing. Default: the system's temporary folder, which may be in memory.

    Raises:
        NfbenchError: the disk is full.
    """
    n_bytes = math.prod(shape) * np.dtype(dtype).itemsize
    if n_bytes <= LARGE:
        return np.empty(shape, dtype)
    with _file(folder) as file:
        if hasattr(os, "posix_fallocate"):  # a page that finds no space when it is written to would end the process
            os.posix_fallocate(file.fileno(), 0, n_bytes)
        return np.memmap(file, dtype, "r+", shape=tuple(shape))


def stored(array: np.ndarray, folder: Path | None = None) -> np.ndarray:
    """Copies an array to a file and maps it for reading; arguments and errors as for ``empty``."""
    with _file(folder) as file:
        file.write(array.data.cast("B"))
        file.flush()
        return np.memmap(file, array.dtype, "r", shape=array.shape)


def release(array: np.ndarray) -> None:
    """Frees the memory that reading and writing a mapped array took; its values stay."""
    mapped = getattr(array, "_mmap", None)
    if mapped is not None and array.mode != "c":  # type: ignore[attr-defined]
        mapped.madvise(mmap.MADV_DONTNEED)


def parts(array: np.ndarray) -> Iterator[np.ndarray]:
    """Consecutive rows of an array, in parts of about equal length and 256 MiB.

    Memory of a mapped array is freed after each part.
    """
    for part in np.array_split(array, max(1, min(len(array), math.ceil(array.nbytes / _PART)))):
        yield part
        release(array)


def walk(array: np.ndarray) -> Iterator[np.ndarray]:
    """Rows of an array; frees memory of a mapped one on the way."""
    for part in parts(array):
        yield from part


def save(path: Path, array: np.ndarray) -> None:
    """Like ``numpy.save`` with a path that ends in ``.npy``, but in parts."""
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
        for part in parts(array):
            file.write(np.ascontiguousarray(part).reshape(-1).view(np.uint8).data)


@contextmanager
def _file(folder: Path | None) -> Iterator[IO[bytes]]:
    where = Path(tempfile.gettempdir() if folder is None else folder)
    try:
        where.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=where) as file:
            yield file
    except OSError as error:
        if full := full_disk(where, error):
            raise full from error
        raise

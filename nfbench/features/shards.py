"""Caches too large for one file per level: written in atomic shards, read as one array.

Shards lie in a folder that is named by the cache's key. A shard counts once its index is there, which is written
last, so a stopped extraction continues with the first missing shard. Memory and, beyond the
cache itself, disk are bounded by one shard.
"""

import errno
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from nfbench.core.errors import NfbenchError
from nfbench.core.files import read_model, write_json
from nfbench.core.provenance import file_sha256
from nfbench.core.record import Record
from nfbench.features.meta import CachedFile

__all__ = [
    "SHARD_BYTES",
    "ShardIndex",
    "Shards",
    "StoredArray",
    "finished_shards",
    "plan_shards",
    "remove_other_shards",
    "require_space",
    "reserve",
    "shard_folder",
    "write_index",
]

_CHUNK = 1 << 24

SHARD_BYTES = 2 << 30
"""Caches of more bytes are written in shards of no more."""


class StoredArray(Protocol):
    """Values of all images of a view: in memory, on disk or computed when they are read; an array is one."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of images, and shape of the values of one."""

    @property
    def dtype(self) -> np.dtype:
        """Number format."""

    @property
    def nbytes(self) -> int:
        """Bytes that it takes in memory; the largest integer keeps it out of memory."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any, /) -> Any: ...


Load = Callable[[], StoredArray]


class ShardIndex(Record):
    """Index of a shard, which says that it is complete."""

    files: list[CachedFile]


class Shards:
    """Arrays one after the other, read as one along the first axis; each is opened when it is first read.

    Args:
        loads: open the arrays.
        lengths: of the arrays along the first axis.
        shape: of one row.
        dtype: of all.
    """

    def __init__(self, loads: Sequence[Load], lengths: Sequence[int], shape: Sequence[int], dtype: np.dtype) -> None:
        self._loads = list(loads)
        self._opened: dict[int, StoredArray] = {}
        self._first = np.cumsum([0, *lengths])
        self.shape, self.dtype = (int(self._first[-1]), *shape), np.dtype(dtype)

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def nbytes(self) -> int:
        """Bytes of all rows."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    def __getitem__(self, rows: int | slice | Sequence[int] | np.ndarray) -> np.ndarray:
        if isinstance(rows, int | np.integer):
            return self._rows(np.array([rows]))[0]
        return self._rows(np.arange(len(self))[rows])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self._rows(np.arange(len(self))).astype(dtype or self.dtype, copy=False)

    def _rows(self, rows: np.ndarray) -> np.ndarray:
        if len(rows) and not -len(self) <= rows.min() <= rows.max() < len(self):
            raise IndexError(f"rows {rows.min()} to {rows.max()} of {len(self)}")
        found = np.empty((len(rows), *self.shape[1:]), self.dtype)
        for own, array, local in self.split(rows):
            found[own] = array[local]
        return found

    def part(self, first: int, last: int) -> "Shards":
        """Consecutive rows, of which none is read."""
        loads, lengths = [], []
        for shard, (start, end) in enumerate(pairwise(self._first.tolist())):
            if start < last and first < end:
                own = slice(max(first - start, 0), min(last, end) - start)
                loads.append(partial(self._sliced, shard, own))
                lengths.append(own.stop - own.start)
        return Shards(loads, lengths, self.shape[1:], self.dtype)

    def _sliced(self, shard: int, rows: slice) -> StoredArray:
        return self._open(shard)[rows]

    def split(self, rows: np.ndarray) -> Iterator[tuple[np.ndarray, StoredArray, np.ndarray]]:
        """For each array with some of the rows: their places among ``rows``, the array, and their rows in it."""
        rows = rows % max(1, len(self))
        shards = np.searchsorted(self._first, rows, side="right") - 1
        for shard in np.unique(shards).tolist():
            (own,) = np.nonzero(shards == shard)
            yield own, self._open(shard), rows[own] - self._first[shard]

    def _open(self, shard: int) -> StoredArray:
        if shard not in self._opened:
            self._opened[shard] = self._loads[shard]()
        return self._opened[shard]


def plan_shards(n_images: int, image_bytes: int, limit: int) -> list[range]:
    """Images of each shard; one shard where all fit into ``limit`` bytes."""
    size = max(1, limit // image_bytes) if n_images * image_bytes > limit else max(1, n_images)
    return [range(first, min(first + size, n_images)) for first in range(0, max(1, n_images), size)]


def shard_folder(meta_path: Path, key: str) -> Path:
    """Return the folder of a cache's shards."""
    return meta_path.parent / f"shards-{key[:16]}"


def remove_other_shards(meta_path: Path, key: str) -> None:
    """Remove shards of unfinished caches with another key."""
    for folder in meta_path.parent.glob("shards-*"):
        if folder != shard_folder(meta_path, key):
            shutil.rmtree(folder)


def require_space(meta_path: Path, needed: int) -> None:
    """Raise an error if a cache does not fit on the disk.

    Raises:
        NfbenchError: says how much is needed, and how to need less.
    """
    free = shutil.disk_usage(meta_path.parent).free
    if needed > free:
        raise NfbenchError(
            f"{meta_path}: these features take {needed / 1e9:,.3f} GB, {free / 1e9:,.3f} GB are free; take fewer "
            "frames of videos ('stride' of the dataset), or compute features when they are needed ('online: true' of "
            "the backbone)"
        )


def reserve(path: Path) -> None:
    """Reserve the space of a file of final size, so a full disk is an error and not a crash on a mapped page.

    Where the system or the file system cannot reserve space (macOS, ZFS), zeros are written; the file must hold nothing
    yet beyond its first bytes.
    """
    size = path.stat().st_size
    with open(path, "r+b") as file:
        if hasattr(os, "posix_fallocate"):
            try:
                os.posix_fallocate(file.fileno(), 0, size)
                return
            except OSError as error:
                if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENODEV):
                    raise
        head = file.read(_CHUNK)
        file.seek(0)
        file.write(head)
        for first in range(len(head), size, _CHUNK):
            file.write(bytes(min(_CHUNK, size - first)))


def finished_shards(folder: Path, plan: Sequence[range]) -> Iterator[tuple[Path, range, "ShardIndex | None"]]:
    """For each shard its index file, its images, and the index's content if it is complete."""
    for number, images in enumerate(plan):
        path = folder / f"{number:05}.json"
        try:
            index = read_model(ShardIndex, path)
        except NfbenchError:  # none, or one that was cut short
            index = None
        complete = index and all(_is_whole(folder.parent / file.name, file.sha256) for file in index.files)
        yield path, images, index if complete else None


def _is_whole(path: Path, sha256: str) -> bool:
    return path.is_file() and file_sha256(path) == sha256


def write_index(path: Path, files: list[CachedFile]) -> None:
    """Mark a shard as complete."""
    write_json(path, ShardIndex(files=files).model_dump(mode="json"))

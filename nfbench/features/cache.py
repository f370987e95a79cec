"""The feature cache: one memory-mapped array per level, and what they are in ``meta.json``.

A cache is known by its key, a hash of everything that determines its values: backbone, weights, levels, input size,
normalization, transform, images and number format. It is complete once ``meta.json`` is there, which is written last.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from nfbench.errors import NfbenchError
from nfbench.files import atomic_path, read_json, remove_stale, write_json
from nfbench.provenance import file_sha256

__all__ = ["FeatureCache", "cache_key", "describe_difference", "write_cache"]

DTYPE = np.dtype(np.float16)
MASKS = "masks"
_NOT_IDENTITY = ("files", "key", "seconds", "provenance", "weights_source")


class FeatureCache:
    """Cached features of one view of one category.

    Args:
        meta_path: its ``meta.json``.

    Attributes:
        meta: contents of ``meta.json``.
        levels: memory-mapped arrays ``(N, C_l, H_l, W_l)`` of fp16, fine to coarse; ``(N, K, C_l, H_l, W_l)`` where
            they hold ``K`` views of each image, rotated ones or pseudo-anomalies.
        masks: of pseudo-anomalies, ``(N, K, S, S)`` uint8, memory-mapped, 255 where anomalous; None without.

    Raises:
        NfbenchError: a file is missing, cut short or changed since it was written; names it.
    """

    def __init__(self, meta_path: str | Path) -> None:
        self.path = Path(meta_path)
        self.meta: dict[str, Any] = read_json(self.path)
        if cache_key(self.meta) != self.meta.get("key"):
            raise NfbenchError(f"{self.path}: its key does not belong to its contents; delete it and extract again")
        arrays = {file["name"]: self._open(file) for file in self.meta["files"]}
        self.masks = arrays.pop(f"{MASKS}.npy", None)
        self.levels = list(arrays.values())

    def __len__(self) -> int:
        return self.meta["n_images"]

    @property
    def shapes(self) -> list[tuple[int, int, int]]:
        """``(C, H, W)`` of each level."""
        return [tuple(shape) for shape in self.meta["shapes"]]

    def require_same_source(self, other: dict[str, Any], other_path: str | Path) -> None:
        """Refuses to go on when another cache's ``meta`` comes of another backbone, size or transform.

        Raises:
            NfbenchError: names both caches and what differs.
        """
        difference = describe_difference(self.meta, other, ignore=("view", "images_sha256", "n_images", "synthesis"))
        if difference:
            raise NfbenchError(f"features do not go together: {self.path} and {other_path} differ in {difference}")

    def _open(self, file: dict[str, Any]) -> np.ndarray:
        path = self.path.parent / file["name"]
        if not path.is_file():
            raise NfbenchError(f"{path} is missing; delete {self.path} and extract again")
        if file_sha256(path) != file["sha256"]:
            raise NfbenchError(f"{path} has changed since it was written; delete {self.path} and extract again")
        return np.load(path, mmap_mode="r")


def cache_key(meta: dict[str, Any]) -> str:
    """Hash over all that determines the cached values."""
    identity = {name: value for name, value in meta.items() if name not in _NOT_IDENTITY}
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def describe_difference(ours: dict[str, Any], theirs: dict[str, Any], ignore: Sequence[str] = ()) -> str:
    """Names the entries in which two descriptions differ, with both values; empty where they agree."""
    names = sorted((ours.keys() | theirs.keys()) - {*_NOT_IDENTITY, *ignore})
    different = [name for name in names if ours.get(name) != theirs.get(name)]
    return ", ".join(f"{name} ({ours.get(name)!r} and {theirs.get(name)!r})" for name in different)


@contextmanager
def write_cache(meta_path: str | Path, meta: dict[str, Any], names: Sequence[str]) -> Iterator[list[np.ndarray]]:
    """Gives arrays to fill, of pseudo-anomalies those of the masks last.

    When the block ends well, they take their names and ``meta.json`` is written.

    Args:
        meta_path: where ``meta.json`` goes; the levels go beside it.
        meta: everything that determines the values, with ``shapes``, ``rotations`` and ``n_images``, and where they are
            pseudo-anomalies, ``synthesis`` with the number of ``views``.
        names: of the levels.

    Raises:
        NfbenchError: the disk is full, seen before the first value is written.
    """
    meta_path = Path(meta_path)
    meta_path.parent.mkdir(parents=True, exist_ok=True)
    remove_stale(meta_path.parent)
    views = meta["rotations"] or meta.get("synthesis", {}).get("views")
    outer = (meta["n_images"], views) if views else (meta["n_images"],)
    kinds = {f"{name}.npy": (DTYPE, (*outer, *shape)) for name, shape in zip(names, meta["shapes"], strict=True)}
    if "synthesis" in meta:
        kinds[f"{MASKS}.npy"] = (np.dtype(np.uint8), (*outer, meta["input_size"], meta["input_size"]))
    hashes: list[str] = []
    with ExitStack() as stack:
        temporary = [stack.enter_context(atomic_path(meta_path.parent / name)) for name in kinds]
        arrays = [_allocate(path, *kind) for path, kind in zip(temporary, kinds.values(), strict=True)]
        yield arrays
        for array in arrays:
            array.flush()
        hashes = [file_sha256(path) for path in temporary]
    files = [{"name": name, "sha256": digest} for name, digest in zip(kinds, hashes, strict=True)]
    write_json(meta_path, {**meta, "key": cache_key(meta), "files": files})


def _allocate(path: Path, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    """Reserves the whole file at once: a full disk is an error here, and not a crash on a mapped page later."""
    array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    with open(path, "r+b") as file:
        os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array

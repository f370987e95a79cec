"""The feature cache: one memory-mapped array per level, or shards of one, and what they are in ``meta.json``.

A cache is known by its key, a hash of everything that determines its values: backbone, weights, levels, input size,
normalization, transform, images and number format. It is complete once ``meta.json`` is there, which is written last. A
cache with ``online`` in its ``meta.json`` has no files: its features are computed when they are read.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from nfbench.blocks.features import Features
from nfbench.blocks.method import LevelShape
from nfbench.core.errors import NfbenchError
from nfbench.core.files import atomic_path, read_model, remove_stale
from nfbench.core.provenance import file_sha256
from nfbench.core.seals import read_sealed
from nfbench.datasets._manifest import Entry
from nfbench.features.forward import DTYPE, images_hash
from nfbench.features.live import ComputedFeatures, LiveLevel, live_levels
from nfbench.features.meta import CachedFile, FeatureMeta, cache_key, describe_difference
from nfbench.features.shards import (
    SHARD_BYTES,
    ShardIndex,
    Shards,
    StoredArray,
    finished_shards,
    plan_shards,
    remove_other_shards,
    require_space,
    reserve,
    shard_folder,
    write_index,
)

__all__ = ["FeatureCache", "fill_cache"]

MASKS = "masks"
_OF_IMAGES = ("view", "images_sha256", "n_images", "image_sizes", "synthesis")

Fill = Callable[[range, list[np.ndarray]], None]
"""Fill the arrays of some images; the masks of pseudo-anomalies come last."""


class FeatureCache:
    """Cached features of one view of one category.

    Args:
        meta_path: its ``meta.json``.

    Attributes:
        meta: contents of ``meta.json``.
        features: memory-mapped arrays ``(N, C_l, H_l, W_l)`` of fp16; ``(N, K, C_l, H_l, W_l)`` where they hold ``K``
            views of each image, rotated ones or pseudo-anomalies. ``Shards`` or ``LiveLevel`` of large sets, which are
            read by rows in the same way. With tiles each row is a tile, and ``features.tiling`` knows its image.
        masks: of pseudo-anomalies, ``(N, K, H, W)`` uint8, memory-mapped, 255 where anomalous; None without.

    Raises:
        NfbenchError: a file is missing, cut short or changed since it was written; names it.
    """

    def __init__(self, meta_path: str | Path) -> None:
        self.path = Path(meta_path)
        self.meta = read_sealed(FeatureMeta, self.path)
        if cache_key(self.meta) != self.meta.key:
            raise NfbenchError(f"{self.path}: its key does not belong to its contents; delete it and extract again")
        arrays = {name: self._array(files) for name, files in _by_level(self.meta.files).items()}
        self.masks = arrays.pop(MASKS, None)
        stored: Sequence[StoredArray] = live_levels(self.meta) if self.meta.online else list(arrays.values())
        self.features: Features[StoredArray] = replace(self.meta.recipe.features(stored), tiling=self.meta.tiling)

    def __len__(self) -> int:
        return self.meta.n_images

    @property
    def shapes(self) -> list[LevelShape]:
        """Shape of each level."""
        return [LevelShape(*shape) for shape in self.meta.shapes]

    @property
    def pseudo_views(self) -> tuple[Features[np.ndarray], np.ndarray]:
        """Return features and masks of pseudo-anomalies, which are never sharded.

        Raises:
            NfbenchError: they are features of other images.
        """

        def whole(array: object) -> np.ndarray:
            if not isinstance(array, np.ndarray):
                raise NfbenchError(f"{self.path} has no pseudo-anomalies; delete it and extract again")
            return array

        return self.features.map(whole), whole(self.masks)

    def part(self, first: int, last: int) -> Features[StoredArray]:
        """Return the stored features of consecutive images without reading them."""
        if (first, last) == (0, len(self)):
            return self.features
        images, tiling = range(first, last), self.features.tiling
        if tiling is not None:
            first, last = tiling.first[first], tiling.first[last]
        computed: dict[int, ComputedFeatures] = {}  # levels that are computed together stay together

        def part_of(array: StoredArray) -> StoredArray:
            if isinstance(array, LiveLevel):
                features = computed.setdefault(id(array.features), array.features.part(first, last))
                return LiveLevel(features, array.number, array.shape[1:])
            if isinstance(array, Shards):
                return array.part(first, last)
            if isinstance(array, np.memmap) and array.filename is not None:
                offset = array.offset + first * array.strides[0]  # a slice would keep the offset of the whole array
                return np.memmap(array.filename, array.dtype, "r", offset, (last - first, *array.shape[1:]))
            return array[first:last]

        return replace(self.features.map(part_of), tiling=None if tiling is None else tiling.select(images))

    def require_same_source(self, other: FeatureMeta, other_path: str | Path) -> None:
        """Check that another cache has the same backbone, size and transform.

        Raises:
            NfbenchError: names both caches and what differs.
        """
        difference = describe_difference(self.meta, other, ignore=_OF_IMAGES)
        if difference:
            raise NfbenchError(f"features do not match: {self.path} and {other_path} differ in {difference}")

    def require_images(self, entries: Sequence[Entry], manifest: str | Path) -> None:
        """Check that the features are those of ``entries``, image by image.

        Raises:
            NfbenchError: names the cache and the manifest.
        """
        if images_hash(entries) != self.meta.images_sha256:
            raise NfbenchError(
                f"{self.path} has the features of other images than manifest {manifest} has in its view "
                f"'{self.meta.view}'; delete {self.path} and run 'snakemake' again"
            )

    def _array(self, files: Sequence[CachedFile]) -> StoredArray:
        """One level: a file of its own, or shards, each of which is opened and verified when it is first read."""
        first = self._open(files[0])
        if len(files) == 1:
            return first
        loads = [partial(self._open, file) for file in files]
        return Shards(loads, [file.images for file in files], first.shape[1:], first.dtype)

    def _open(self, file: CachedFile) -> np.ndarray:
        path = self.path.parent / file.name
        if not path.is_file():
            raise NfbenchError(f"{path} is missing; delete {self.path} and extract again")
        if file_sha256(path) != file.sha256:
            raise NfbenchError(f"{path} has changed since it was written; delete {self.path} and extract again")
        return np.load(path, mmap_mode="r")


def fill_cache(meta_path: str | Path, meta: FeatureMeta, fill: Fill, limit: int = SHARD_BYTES) -> list[CachedFile]:
    """Write the arrays of a cache, in shards above ``limit`` bytes; existing shards stay.

    Args:
        meta_path: path of ``meta.json``; the levels go next to it.
        meta: everything that determines the values.
        fill: computes the values of some images.
        limit: largest number of bytes of one shard; pseudo-anomalies are never sharded.

    Returns:
        The entries of ``meta.json`` about the files.

    Raises:
        NfbenchError: the disk is full, seen before the first value of a shard is written.
    """
    meta_path = Path(meta_path)
    meta_path.parent.mkdir(parents=True, exist_ok=True)
    remove_stale(meta_path.parent)
    key, kinds = cache_key(meta), _kinds(meta)
    remove_other_shards(meta_path, key)
    image_bytes = sum(dtype.itemsize * math.prod(shape) for dtype, shape in kinds.values())
    plan = plan_shards(meta.n_rows, image_bytes, meta.n_rows * image_bytes if MASKS in kinds else limit)
    folder = shard_folder(meta_path, key)
    if len(plan) == 1:
        with _arrays(meta_path.parent, {name: f"{name}.npy" for name in kinds}, kinds, plan[0]) as (arrays, files):
            fill(plan[0], arrays)
        return files
    folder.mkdir(exist_ok=True)
    remove_stale(folder)
    shards = list(finished_shards(folder, plan))
    require_space(meta_path, image_bytes * sum(len(images) for _, images, index in shards if index is None))
    for path, images, index in shards:
        if index is None:
            named = {name: f"{folder.name}/{name}.{path.stem}.npy" for name in kinds}
            with _arrays(meta_path.parent, named, kinds, images) as (arrays, files):
                fill(images, arrays)
            write_index(path, files)
    return [file for path, _, _ in shards for file in read_model(ShardIndex, path).files]


def _kinds(meta: FeatureMeta) -> dict[str, tuple[np.dtype, tuple[int, ...]]]:
    """Format and shape of one image's values, by array."""
    outer = (meta.views,) if meta.views else ()
    kinds: dict[str, tuple[np.dtype, tuple[int, ...]]] = {
        name: (DTYPE, (*outer, *shape)) for name, shape in meta.recipe.arrays.items()
    }
    if meta.synthesis:
        kinds[MASKS] = (np.dtype(np.uint8), (*outer, *meta.map_size))
    return kinds


@contextmanager
def _arrays(
    folder: Path,
    named: Mapping[str, str],
    kinds: Mapping[str, tuple[np.dtype, tuple[int, ...]]],
    images: range,
) -> Iterator[tuple[list[np.ndarray], list[CachedFile]]]:
    """Yield arrays to fill; on success, rename them to their final names and list them."""
    files: list[CachedFile] = []
    with ExitStack() as stack:
        temporary = {name: stack.enter_context(atomic_path(folder / named[name])) for name in kinds}
        arrays = [_allocate(temporary[name], dtype, (len(images), *shape)) for name, (dtype, shape) in kinds.items()]
        yield list(arrays), files
        for array in arrays:
            array.flush()
        files += [
            CachedFile(name=named[name], level=name, images=len(images), sha256=file_sha256(path))
            for name, path in temporary.items()
        ]


def _by_level(files: Sequence[CachedFile]) -> dict[str, list[CachedFile]]:
    levels: dict[str, list[CachedFile]] = {}
    for file in files:
        levels.setdefault(file.level, []).append(file)
    return levels


def _allocate(path: Path, dtype: np.dtype, shape: tuple[int, ...]) -> np.memmap:
    """An array in a file whose whole space is reserved at once."""
    array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    reserve(path)
    return array

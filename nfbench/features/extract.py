"""Extraction: the features of one view into its cache."""

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from nfbench.anomalies._base import AnomalyGenerator, view_seed
from nfbench.config import BackboneConfig
from nfbench.core.ahead import in_order
from nfbench.core.errors import NfbenchError
from nfbench.core.progress import progress
from nfbench.core.provenance import provenance
from nfbench.core.seals import read_sealed, write_sealed
from nfbench.datasets._manifest import Entry
from nfbench.features.cache import fill_cache
from nfbench.features.extractor import CPU_BATCH, Extracted, Extractor, Read, streams, thread_pool
from nfbench.features.forward import DTYPE, images_hash, load_recipe, read_images, transform_of
from nfbench.features.meta import FeatureMeta, LiveSource, SynthesisMeta, cache_key, describe_difference
from nfbench.features.shards import SHARD_BYTES
from nfbench.features.tiling import cut, tiling_of
from nfbench.plan.specs import ExtractSpec

__all__ = ["Synthesis", "extract_features"]

_log = logging.getLogger(__name__)
_PROBE = 16


class Synthesis(NamedTuple):
    """Pseudo-anomalies to extract instead of images: some views of each image that a generator knows."""

    name: str
    generator: AnomalyGenerator
    views: int
    seed: int

    def draw(self, index: int) -> tuple[Tensor, np.ndarray]:
        """All views of one image, ``(K, 3, H, W)`` and masks ``(K, H, W)``, uint8; they follow from the seed."""
        drawn = [self.generator(index, view_seed(self.name, self.seed, index, view)) for view in range(self.views)]
        images, masks = (np.stack(arrays) for arrays in zip(*drawn, strict=True))
        return torch.from_numpy(images).movedim(-1, -3), masks

    def describe(self) -> SynthesisMeta:
        """Description of the pseudo-anomalies in ``meta.json``."""
        masks = [entry.mask_sha256 for entry in self.generator.anomalies]
        return SynthesisMeta(generator=self.name, views=self.views, seed=self.seed, masks_sha256=masks)


def extract_features(
    entries: Sequence[Entry],
    backbone: BackboneConfig,
    meta_path: str | Path,
    *,
    view: str,
    device: torch.device,
    synthesis: Synthesis | None = None,
    online: str | Path | None = None,
    shard_bytes: int = SHARD_BYTES,
    spec: ExtractSpec | None = None,
) -> FeatureMeta:
    """Extract the features of one view into the cache; resume a stopped extraction from its shards.

    Args:
        entries: images, in the order of the cache; of pseudo-anomalies, all images that they are made of.
        backbone: how features are made.
        meta_path: where ``meta.json`` goes.
        view: name of the view: ``train``, ``test``, or one of pseudo-anomalies.
        device: where the forward pass runs.
        synthesis: pseudo-anomalies to extract, with their masks, instead of the images themselves.
        online: manifest of the images, for a cache without values: they are computed whenever they are read. Its
            ``seconds`` are those of the first images, times their share.
        shard_bytes: caches of more bytes are written in shards.
        spec: the spec of the stage, kept in ``meta.json``.

    Returns:
        The description of the cache.

    Raises:
        NfbenchError: a bad image, weights that cannot be had, keys that the backbone does not take, values beyond fp16,
            a full disk, rotated views of pseudo-anomalies, cached pseudo-anomalies of a backbone that is online, or a
            cache of something else at ``meta_path``; names both sides.
    """
    if synthesis and online is not None:
        raise NfbenchError("'online: true' of a backbone has no views to cache; set 'online' of the 'anomalies' too")
    if synthesis and backbone.rotations:
        raise NfbenchError("'rotations' of a backbone and 'anomalies' of a variant exclude each other")
    if synthesis and backbone.tiles:
        raise NfbenchError("'tiles' of a backbone and 'anomalies' of a variant exclude each other")
    recipe, model = load_recipe(backbone)
    n_images, tiling = len(synthesis.generator) if synthesis else len(entries), tiling_of(entries, backbone.tiles)
    pictures = cut(entries, tiling)
    meta = FeatureMeta(
        recipe=recipe,
        tag=backbone.tag_parts,
        transform=transform_of(backbone.input_size),
        dtype=DTYPE.name,
        view=view,
        n_images=n_images,
        images_sha256=images_hash(entries),
        image_sizes=[] if tiling is None else tiling.runs,
        synthesis=synthesis.describe() if synthesis else None,
        online=LiveSource(manifest=str(online), device=device.type) if online is not None else None,
        spec=spec,
    )
    _refuse_other_cache(Path(meta_path), meta)
    started = time.monotonic()
    extractor = Extractor(recipe, device, model)

    def read(rows: Sequence[int]) -> tuple[Tensor, Tensor | None]:
        if synthesis:
            images, masks = zip(*map(synthesis.draw, rows), strict=True)
            return torch.stack(images), torch.from_numpy(np.stack(masks))
        angles = [recipe.angles] * len(rows) if backbone.rotations else None
        return read_images([pictures[row] for row in rows], backbone.input_size, angles), None

    def fill(images: range, arrays: list[np.ndarray]) -> None:
        label = f"extract {view}" if len(images) == meta.n_rows else f"extract {view}, {images.start} to {images.stop}"
        _fill(extractor, read, images, 1 if synthesis else CPU_BATCH, arrays, label)

    if online is not None:
        probe = range(min(meta.n_rows, _PROBE))
        fill(probe, [np.empty((len(probe), *recipe.views, *shape), DTYPE) for shape in recipe.arrays.values()])
        share, files = meta.n_rows / max(1, len(probe)), []
    else:
        share, files = 1, fill_cache(meta_path, meta, fill, shard_bytes)
    seconds = round(share * (time.monotonic() - started), 3)
    made = {"key": cache_key(meta), "files": files, "seconds": seconds, "provenance": provenance(device)}
    meta = meta.model_copy(update=made)
    write_sealed(meta_path, meta)
    return meta


def _fill(
    extractor: Extractor, read: Read[int], images: range, per_task: int, arrays: Sequence[np.ndarray], label: str
) -> None:
    """Extract images into arrays, masks last; write one batch while the next is computed."""
    views = max(1, extractor.recipe.backbone.rotations)
    size = max(1, extractor.at_once // views) if streams(extractor.device) else per_task
    batches = [images[first : first + size] for first in range(0, len(images), size)]
    threads = torch.get_num_threads()
    with ThreadPoolExecutor(1) as stream, thread_pool(threads) as pool:

        def begin(batch: range) -> Callable[[], Extracted]:
            return stream.submit(extractor.begin(read, batch, pool, per_task)).result

        found = in_order(begin, batches, ahead=2 + 2 * threads // size)
        for batch, (levels, masks) in zip(batches, progress(found, total=len(batches), label=label), strict=True):
            for array, part in zip(arrays, levels if masks is None else [*levels, masks], strict=True):
                array[batch.start - images.start : batch.stop - images.start] = part.numpy()


def _refuse_other_cache(meta_path: Path, meta: FeatureMeta) -> None:
    if not meta_path.exists():
        return
    try:
        found = read_sealed(FeatureMeta, meta_path)
    except NfbenchError as error:
        _log.warning("%s; it is made again", str(error).partition(";")[0])
        return
    if found.key != cache_key(meta):
        raise NfbenchError(
            f"{meta_path} holds other features than requested; they differ in "
            f"{describe_difference(found, meta)}; delete it or choose another folder"
        )

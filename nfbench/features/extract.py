"""Extraction: images through a frozen backbone into the cache.

Each thread of a pool decodes a few images and passes them through the backbone on one core: Pillow and torch release
the interpreter while they work, no core waits for another, and no feature depends on the number of cores.
"""

import hashlib
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from nfbench.anomalies.base import AnomalyGenerator, view_seed
from nfbench.backbones.base import Backbone
from nfbench.backbones.weights import state_hash
from nfbench.core.errors import NfbenchError
from nfbench.core.files import read_json, write_json
from nfbench.core.progress import progress
from nfbench.core.provenance import provenance
from nfbench.datasets.manifest import Entry, read_checked_image
from nfbench.features.cache import DTYPE, cache_key, describe_difference, fill_cache
from nfbench.features.recipe import Recipe
from nfbench.features.shards import SHARD_BYTES

__all__ = ["Synthesis", "extract_batch", "extract_features", "images_hash", "normalize", "read_images", "thread_pool"]

TRANSFORM = "RGB, resized to a square by Pillow's bilinear filter"
BATCH_SIZE = {"cpu": 2, "cuda": 16}
"""Images per forward pass; on a CPU, few at a time stay in the core's cache."""

_PROBE = 16
_BILINEAR, _NEAREST = 2, 0  # Pillow's filters, the first with antialiasing


class Synthesis(NamedTuple):
    """Pseudo-anomalies to extract instead of images: some views of each image that a generator knows."""

    name: str
    generator: AnomalyGenerator
    views: int
    seed: int

    def draw(self, index: int) -> tuple[Tensor, np.ndarray]:
        """All views of one image, ``(K, 3, S, S)`` and masks ``(K, S, S)``, uint8; they follow from the seed."""
        drawn = [self.generator(index, view_seed(self.name, self.seed, index, view)) for view in range(self.views)]
        images, masks = (np.stack(arrays) for arrays in zip(*drawn, strict=True))
        return torch.from_numpy(images).movedim(-1, -3), masks

    def describe(self) -> dict[str, Any]:
        """What ``meta.json`` says of it."""
        masks = [entry.mask_sha256 for entry in self.generator.anomalies]
        return {"generator": self.name, "views": self.views, "seed": self.seed, "masks_sha256": masks}


def read_images(entries: Sequence[Entry], input_size: int, angles: Sequence[Sequence[float]] | None = None) -> Tensor:
    """Decoded images, each checked against the hash in its manifest entry.

    Args:
        entries: ``B`` images.
        input_size: side ``S`` of the square that they are resized to.
        angles: ``K`` rotations for each image in degrees, counter-clockwise, by the nearest pixel, with black corners;
            None for the image as it is.

    Returns:
        ``(B, 3, S, S)`` uint8; with angles ``(B, K, 3, S, S)``.

    Raises:
        NfbenchError: an image cannot be read, or has changed since the manifest was made.
    """
    images = []
    for number, entry in enumerate(entries):
        image = read_checked_image(entry).resize((input_size, input_size), resample=_BILINEAR)
        if angles is None:
            images.append(np.array(image))
        else:
            images.append(np.stack([np.array(image.rotate(angle, _NEAREST)) for angle in angles[number]]))
    return torch.from_numpy(np.stack(images)).movedim(-1, -3)


def normalize(images: Tensor, backbone: Backbone, device: torch.device) -> Tensor:
    """``(B, 3, S, S)`` uint8 to the float input that the backbone was trained on."""
    mean = torch.tensor(backbone.mean, device=device).view(3, 1, 1)
    std = torch.tensor(backbone.std, device=device).view(3, 1, 1)
    scaled = images.to(device, non_blocking=True, memory_format=torch.channels_last).float() / 255
    return (scaled - mean) / std


def extract_batch(model: nn.Module, images: Tensor, recipe: Recipe, device: torch.device) -> list[Tensor]:
    """Features of a few images.

    Args:
        model: extractor of the recipe.
        images: ``(B, 3, S, S)`` uint8, or ``(B, K, 3, S, S)``.
        recipe: how features are made.
        device: where ``model`` is.

    Returns:
        For each level ``(B, C_l, H_l, W_l)``, or ``(B, K, C_l, H_l, W_l)``; ``(C_l, 1, 1)`` where the recipe pools; the
        normalized image first where the recipe keeps it.

    Raises:
        NfbenchError: the input is too small for reflecting padding.
    """
    flat = normalize(images.flatten(0, -4), recipe.backbone, device)
    try:
        parts = [model(part) for part in flat.split(BATCH_SIZE[device.type])]
    except RuntimeError as error:
        if recipe.padding == "reflect" and "adding size should be less" in str(error):
            raise NfbenchError(
                f"backbone '{recipe.backbone.name}' at {recipe.input_size} pixels has levels that are too small for "
                "'padding: reflect'; raise 'input_size'"
            ) from error
        raise
    levels = [torch.cat(level) for level in zip(*parts, strict=True)]
    if recipe.pooled:
        levels = [level.mean((2, 3), keepdim=True) for level in levels]
    if recipe.image:
        levels = [flat, *levels]
    return [level.unflatten(0, images.shape[:-3]) for level in levels]


def extract_features(
    entries: Sequence[Entry],
    recipe: Recipe,
    meta_path: str | Path,
    *,
    view: str,
    device: torch.device,
    synthesis: Synthesis | None = None,
    online: str | Path | None = None,
    shard_bytes: int = SHARD_BYTES,
    spec: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Extracts the features of one view and writes the cache; goes on with the shards of one that was stopped.

    Args:
        entries: images, in the order of the cache; of pseudo-anomalies, all images that they are made of.
        recipe: how features are made.
        meta_path: where ``meta.json`` goes.
        view: name of the view: ``train``, ``test``, or one of pseudo-anomalies.
        device: where the forward pass runs.
        synthesis: pseudo-anomalies to extract, with their masks, instead of the images themselves.
        online: manifest of the images, for a cache without values: they are computed whenever they are read. Its
            ``seconds`` are those of the first images, times their share.
        shard_bytes: caches of more bytes are written in shards.
        spec: what the stage was told, kept in ``meta.json``.

    Returns:
        The contents of ``meta.json``.

    Raises:
        NfbenchError: a bad image, weights that cannot be had, values beyond fp16, a full disk, rotated views of
            pseudo-anomalies, cached pseudo-anomalies of a backbone that is online, or a cache of something else at
            ``meta_path``, of which both sides are named.
    """
    if synthesis and online is not None:
        raise NfbenchError("'online: true' of a backbone has no views to cache; set 'online' of the 'anomalies' too")
    if synthesis and recipe.rotations:
        raise NfbenchError("'rotations' of a backbone and 'anomalies' of a variant exclude each other")
    model = recipe.load_extractor().to(device, memory_format=torch.channels_last)
    n_images = len(synthesis.generator) if synthesis else len(entries)
    meta = {
        **recipe.describe(),
        "weights_sha256": state_hash(model),
        "transform": TRANSFORM,
        "dtype": DTYPE.name,
        "view": view,
        "n_images": n_images,
        "images_sha256": images_hash(entries),
        **({"synthesis": synthesis.describe()} if synthesis else {}),
    }
    _refuse_other_cache(Path(meta_path), meta)
    started = time.monotonic()
    size = 1 if synthesis else BATCH_SIZE[device.type]

    @torch.inference_mode()
    def forward(batch: range) -> list[np.ndarray]:
        if synthesis:
            images, masks = synthesis.draw(batch.start)
            images, masks = images[None], [masks[None]]
        else:
            angles = [recipe.angles] * len(batch) if recipe.rotations else None
            images, masks = read_images(entries[batch.start : batch.stop], recipe.input_size, angles), []
        features = extract_batch(model, images, recipe, device)
        named = zip(recipe.names, features, strict=True)
        return [*(as_fp16(values, recipe.backbone.name, name) for name, values in named), *masks]

    def fill(images: range, arrays: list[np.ndarray]) -> None:
        batches = [range(first, min(first + size, images.stop)) for first in range(images.start, images.stop, size)]
        label = f"extract {view}" if len(images) == n_images else f"extract {view}, {images.start} to {images.stop}"
        with thread_pool(torch.get_num_threads()) as pool:
            found = progress(pool.map(forward, batches), total=len(batches), label=label)
            for batch, values in zip(batches, found, strict=True):
                for array, part in zip(arrays, values, strict=True):
                    array[batch.start - images.start : batch.stop - images.start] = part

    if online is not None:
        probe = range(min(n_images, _PROBE))
        fill(probe, [np.empty((len(probe), *_views(recipe), *shape), DTYPE) for shape in recipe.shapes])
        meta["online"] = {"manifest": str(online), "device": device.type}
        share, files = n_images / len(probe), []
    else:
        share, files = 1, fill_cache(meta_path, meta, recipe.names, fill, shard_bytes)
    meta |= {"seconds": round(share * (time.monotonic() - started), 3), "provenance": provenance(device), "spec": spec}
    write_json(meta_path, {**meta, "key": cache_key(meta), "files": files})
    return read_json(meta_path)


def images_hash(entries: Sequence[Entry]) -> str:
    """Hash of images and their order."""
    return hashlib.sha256("".join(entry.sha256 for entry in entries).encode()).hexdigest()


def as_fp16(features: Tensor, backbone: str, level: str) -> np.ndarray:
    """One level's features as the cache holds them.

    Raises:
        NfbenchError: values beyond the range of fp16.
    """
    values = features.half()
    if not torch.isfinite(torch.stack(values.aminmax())).all():
        raise NfbenchError(f"backbone '{backbone}', {level}: values beyond fp16 ({features.abs().max():.3g})")
    return values.cpu().numpy()


@contextmanager
def thread_pool(count: int) -> Iterator[ThreadPoolExecutor]:
    """Threads that compute on one core each; what waits in the pool is dropped when the context ends."""
    pool = ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(count)  # the setting of one thread is what later threads start with


def _views(recipe: Recipe) -> tuple[int, ...]:
    return (recipe.rotations,) if recipe.rotations else ()


def _refuse_other_cache(meta_path: Path, meta: dict[str, Any]) -> None:
    if not meta_path.exists():
        return
    found = read_json(meta_path)
    if found.get("key") != cache_key(meta):
        raise NfbenchError(
            f"{meta_path} holds other features than asked for; they differ in "
            f"{describe_difference(found, meta)}; delete it or choose another folder"
        )

"""Extraction: images through a frozen backbone into the cache, decoding in worker processes beside the forward pass."""

import hashlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from nfbench.backbones.base import Backbone
from nfbench.backbones.weights import load_backbone, state_hash
from nfbench.datasets.manifest import Entry, read_image
from nfbench.errors import NfbenchError
from nfbench.features.cache import DTYPE, cache_key, describe_difference, write_cache
from nfbench.files import read_json
from nfbench.progress import progress
from nfbench.provenance import file_sha256, provenance

__all__ = ["Images", "extract_features", "normalize"]

TRANSFORM = "RGB, resized to a square by Pillow's bilinear filter"


class Images(Dataset):
    """Decoded images ``(3, S, S)`` uint8, each checked against the hash in its manifest entry."""

    def __init__(self, entries: Sequence[Entry], input_size: int) -> None:
        self.entries = entries
        self.input_size = input_size

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> Tensor | NfbenchError:
        """The image, or the error as a value: raised in a worker process, it would lose its plain message."""
        try:
            return self._read(self.entries[index])
        except NfbenchError as error:
            return error

    def _read(self, entry: Entry) -> Tensor:
        image = read_image(entry.image)
        if file_sha256(entry.image) != entry.sha256:
            raise NfbenchError(f"image {entry.image} has changed since the manifest was made; run prepare_data again")
        resized = image.resize((self.input_size, self.input_size), resample=2)  # 2 is bilinear, with antialiasing
        return torch.from_numpy(np.array(resized)).permute(2, 0, 1).contiguous()


def collate(images: list[Tensor | NfbenchError]) -> Tensor | NfbenchError:
    """A batch ``(B, 3, S, S)``, or the first error among the images."""
    errors = [image for image in images if isinstance(image, NfbenchError)]
    return errors[0] if errors else torch.stack(images)


def normalize(images: Tensor, backbone: Backbone, device: torch.device) -> Tensor:
    """``(B, 3, S, S)`` uint8 to the float input that the backbone was trained on."""
    mean = torch.tensor(backbone.mean, device=device).view(3, 1, 1)
    std = torch.tensor(backbone.std, device=device).view(3, 1, 1)
    scaled = images.to(device, non_blocking=True, memory_format=torch.channels_last).float() / 255
    return (scaled - mean) / std


def extract_features(
    entries: Sequence[Entry],
    backbone: Backbone,
    meta_path: str | Path,
    *,
    view: str,
    input_size: int,
    levels: tuple[int, ...],
    weights: str,
    device: torch.device,
    batch_size: int = 8,
    workers: int = 1,
) -> dict[str, Any]:
    """Extracts the features of one view and writes the cache.

    Args:
        entries: images, in the order of the cache.
        backbone: description of the backbone.
        meta_path: where ``meta.json`` goes.
        view: name of the view, ``train`` or ``test``.
        input_size: side of the square input in pixels.
        levels: levels to keep, fine to coarse.
        weights: see ``load_backbone``.
        device: where the forward pass runs.
        batch_size: images per forward pass.
        workers: processes that decode images.

    Returns:
        The contents of ``meta.json``.

    Raises:
        NfbenchError: a bad image, weights that cannot be had, values beyond fp16, a full disk, or a cache of something
            else at ``meta_path``, of which both sides are named.
    """
    model = load_backbone(backbone, levels, weights).to(device, memory_format=torch.channels_last)
    shapes = backbone.shapes(input_size, levels)
    meta = {
        "backbone": backbone.name,
        "weights": "random" if weights == "random" else "pretrained",
        "weights_sha256": state_hash(model),
        "levels": list(levels),
        "shapes": [list(shape) for shape in shapes],
        "input_size": input_size,
        "mean": list(backbone.mean),
        "std": list(backbone.std),
        "transform": TRANSFORM,
        "dtype": DTYPE.name,
        "view": view,
        "n_images": len(entries),
        "images_sha256": hashlib.sha256("".join(entry.sha256 for entry in entries).encode()).hexdigest(),
    }
    _refuse_other_cache(Path(meta_path), meta)
    started = time.monotonic()
    loader = DataLoader(Images(entries, input_size), batch_size=batch_size, num_workers=workers, collate_fn=collate)
    with write_cache(meta_path, meta, shapes) as arrays, torch.inference_mode():
        first = 0
        for images in progress(loader, total=len(loader), label=f"extract {view}"):
            if isinstance(images, NfbenchError):
                raise images
            _store(model, normalize(images, backbone, device), arrays, first, backbone.name, levels)
            first += len(images)
        meta |= {"seconds": round(time.monotonic() - started, 3), "provenance": provenance()}
    return read_json(meta_path)


def _store(
    model: nn.Module, batch: Tensor, arrays: list[np.ndarray], first: int, name: str, levels: tuple[int, ...]
) -> None:
    for level, features, array in zip(levels, model(batch), arrays, strict=True):
        values = features.half().cpu()
        if not torch.isfinite(values).all():
            raise NfbenchError(f"backbone '{name}', level {level}: values beyond fp16 ({features.abs().max():.3g})")
        array[first : first + len(values)] = values.numpy()


def _refuse_other_cache(meta_path: Path, meta: dict[str, Any]) -> None:
    if not meta_path.exists():
        return
    found = read_json(meta_path)
    if found.get("key") != cache_key(meta):
        raise NfbenchError(
            f"{meta_path} holds other features than asked for; they differ in "
            f"{describe_difference(found, meta)}; delete it or choose another folder"
        )

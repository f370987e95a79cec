"""One pass: images through a frozen backbone."""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from nfbench.backbones._base import find_backbone
from nfbench.backbones._weights import load_backbone, state_hash
from nfbench.config import BackboneConfig
from nfbench.core.errors import NfbenchError
from nfbench.core.input_size import InputSize, Sides
from nfbench.datasets._manifest import Entry, read_checked_image
from nfbench.features.recipe import Recipe
from nfbench.features.tiling import Tile

__all__ = [
    "DTYPE",
    "TRANSFORM",
    "Picture",
    "channels_last",
    "extract_batch",
    "images_hash",
    "load_extractor",
    "load_network",
    "load_recipe",
    "normalize",
    "random_network",
    "read_images",
    "to_half",
    "to_size",
    "transform_of",
]

Picture = Entry | Image.Image
"""An image: an entry of a manifest, or a decoded image."""

DTYPE = np.dtype(np.float16)
TRANSFORM = "RGB, resized to a square by Pillow's bilinear filter"
_STRETCHED = "RGB, stretched to height and width by Pillow's bilinear filter"


def transform_of(input_size: Sides) -> str:
    """Return how images become inputs of this size; squares keep the text that the keys of their caches contain."""
    return TRANSFORM if InputSize.of(input_size).is_square else _STRETCHED


def read_images(
    pictures: Sequence[Picture | Tile], input_size: Sides, angles: Sequence[Sequence[float]] | None = None
) -> Tensor:
    """Decode images; check entries of a manifest against their hashes.

    Args:
        pictures: ``B`` images, or tiles of images.
        input_size: height ``H`` and width ``W`` that they are resized to, or the side of a square.
        angles: ``K`` rotations for each image in degrees, counter-clockwise, by the nearest pixel, with black corners;
            None for the image as it is.

    Returns:
        ``(B, 3, H, W)`` uint8; with angles ``(B, K, 3, H, W)``.

    Raises:
        NfbenchError: an image cannot be read, or has changed since the manifest was made.
    """
    images = []
    for number, picture in enumerate(pictures):
        image = to_size(_open(picture), input_size)
        if angles is None:
            images.append(np.array(image))
        else:
            images.append(
                np.stack([np.array(image.rotate(angle, Image.Resampling.NEAREST)) for angle in angles[number]])
            )
    return torch.from_numpy(np.stack(images)).movedim(-1, -3)


def to_size(image: Image.Image, input_size: Sides) -> Image.Image:
    """An image in RGB resized as ``transform_of`` says; one of this size stays as it is."""
    return image.resize(InputSize.of(input_size).width_height, resample=Image.Resampling.BILINEAR)


def _open(picture: Picture | Tile) -> Image.Image:
    if isinstance(picture, Tile):
        return picture.open()
    if isinstance(picture, Image.Image):
        return picture.convert("RGB")
    return read_checked_image(picture)


def load_recipe(backbone: BackboneConfig) -> tuple[Recipe, nn.Module]:
    """How features are made by a backbone as its weights are now, and its frozen network; see ``load_extractor``.

    Raises:
        NfbenchError: the weights are not available.
    """
    model = _load(backbone.resolved())
    recipe = Recipe.of(backbone, state_hash(model))
    return recipe, model if backbone.frozen else _nothing()


def load_extractor(recipe: Recipe) -> nn.Module:
    """The frozen network of a recipe, ``(B, 3, H, W)`` to a list of ``(B, C_l, H_l, W_l)``; nothing of one to train.

    Raises:
        NfbenchError: the weights are not available, or are others than those of the recipe.
    """
    return load_network(recipe) if recipe.backbone.frozen else _nothing()


def load_network(recipe: Recipe) -> nn.Module:
    """The network of a recipe with the weights that it names; one to train has trainable parameters.

    Raises:
        NfbenchError: the weights are not available, or are others than those of the recipe.
    """
    model = _load(recipe.backbone)
    if state_hash(model) != recipe.weights_sha256:
        raise NfbenchError(
            f"the weights of backbone '{recipe.backbone.name}' ({recipe.backbone.weights}) have changed since its "
            "features were cached; extract them again"
        )
    return model.requires_grad_(not recipe.backbone.frozen)


def random_network(backbone: BackboneConfig) -> nn.Module:
    """The network of a backbone with random weights and trainable parameters."""
    return _load(backbone.resolved().model_copy(update={"weights": "random"})).requires_grad_()


def channels_last(model: Any, device: torch.device) -> nn.Module:
    """A module on a device, in the memory format of the images; torch has no type for this call."""
    return model.to(device, memory_format=torch.channels_last)


def _nothing() -> nn.Module:
    return load_backbone(find_backbone("image"), (), "none")


def _load(backbone: BackboneConfig) -> nn.Module:
    return load_backbone(
        backbone.described,
        backbone.levels or (),
        backbone.weights,
        scales=backbone.scales,
        interpolation=backbone.interpolation,
        padding=backbone.padding,
        pyramid=backbone.pyramid,
    )


def normalize(images: Tensor, recipe: Recipe, device: torch.device) -> Tensor:
    """``(B, 3, H, W)`` uint8 to the float input that the backbone was trained on."""
    mean = torch.tensor(recipe.mean, device=device).view(3, 1, 1)
    std = torch.tensor(recipe.std, device=device).view(3, 1, 1)
    scaled = images.to(device, non_blocking=True, memory_format=torch.channels_last).float() / 255
    return (scaled - mean) / std


def extract_batch(model: nn.Module, images: Tensor, recipe: Recipe, device: torch.device, size: int) -> list[Tensor]:
    """Features of a few images.

    Args:
        model: extractor of the recipe.
        images: ``(B, 3, H, W)`` uint8, or ``(B, K, 3, H, W)``.
        recipe: how features are made.
        device: where ``model`` is.
        size: images that ``model`` is given at once.

    Returns:
        For each level ``(B, C_l, H_l, W_l)``, or ``(B, K, C_l, H_l, W_l)``; ``(C_l, 1, 1)`` where the recipe pools; the
        normalized image first where the recipe keeps it.

    Raises:
        NfbenchError: the input is too small for reflecting padding.
    """
    backbone, parts = recipe.backbone, []
    for part in images.flatten(0, -4).split(size):
        inputs = normalize(part, recipe, device)
        parts.append(([inputs] if backbone.image else [], _levels(model, inputs, backbone)))
    image, levels = (_joined(found) for found in zip(*parts, strict=True))
    if backbone.pooled:
        levels = [level.mean((2, 3), keepdim=True) for level in levels]
    return [part.unflatten(0, images.shape[:-3]) for part in [*image, *levels]]


def _joined(parts: Sequence[list[Tensor]]) -> list[Tensor]:
    return parts[0] if len(parts) == 1 else [torch.cat(part) for part in zip(*parts, strict=True)]


def _levels(model: nn.Module, inputs: Tensor, backbone: BackboneConfig) -> list[Tensor]:
    try:
        return model(inputs)
    except RuntimeError as error:
        if backbone.padding == "reflect" and "adding size should be less" in str(error):
            raise NfbenchError(
                f"backbone '{backbone.name}' at {backbone.size} pixels has levels that are too small for "
                "'padding: reflect'; raise 'input_size'"
            ) from error
        raise


def images_hash(entries: Sequence[Entry]) -> str:
    """Return a hash of images and their order."""
    return hashlib.sha256("".join(entry.sha256 for entry in entries).encode()).hexdigest()


def to_half(features: Tensor, backbone: str, level: str) -> Tensor:
    """One level's features as the cache holds them, in the same order in memory: sums of other orders round otherwise.

    Raises:
        NfbenchError: values beyond the range of fp16.
    """
    values = features.half().contiguous()
    if not torch.isfinite(torch.stack(values.aminmax())).all():
        raise NfbenchError(f"backbone '{backbone}', {level}: values beyond fp16 ({features.abs().max():.3g})")
    return values

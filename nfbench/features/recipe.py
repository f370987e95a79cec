"""How features are made of an image: backbone, levels, scales, padding, rotated views, pooling, image, weights."""

from dataclasses import dataclass
from typing import Any

from torch import nn

from nfbench.backbones.base import Backbone, find_backbone
from nfbench.backbones.weights import load_backbone, state_hash
from nfbench.core.errors import NfbenchError
from nfbench.features.meta import FeatureMeta

__all__ = ["Recipe"]


@dataclass(frozen=True)
class Recipe:
    """Everything that determines the features of an image.

    Attributes:
        backbone: description of the backbone.
        input_size: side of the square input in pixels.
        levels: levels to keep, fine to coarse; None for the backbone's own, as for ``scales`` and ``interpolation``.
        scales: divisors of the input's side at which the levels are taken, one after the other.
        interpolation: how the normalized input is scaled.
        padding: ``zeros``, or ``reflect`` in all convolutions.
        rotations: number ``K`` of rotated views of each image, at ``360 / K`` degrees; 0 for the image alone.
        pooled: keep the global average of each level.
        image: keep the normalized image too, as the first level.
        weights: see ``load_backbone``.
    """

    backbone: Backbone
    input_size: int
    levels: tuple[int, ...] | None = None
    scales: tuple[int, ...] | None = None
    interpolation: str | None = None
    padding: str = "zeros"
    rotations: int = 0
    pooled: bool = False
    image: bool = False
    weights: str = "random"

    @classmethod
    def from_meta(cls, meta: FeatureMeta) -> "Recipe":
        """The recipe of a cache, of its ``meta.json``."""
        return cls(
            find_backbone(meta.backbone),
            meta.input_size,
            tuple(meta.levels),
            tuple(meta.scales),
            meta.interpolation,
            meta.padding,
            meta.rotations,
            meta.pooled,
            meta.image,
            meta.weights_source,
        )

    @property
    def angles(self) -> list[float]:
        """Angles of the rotated views in degrees."""
        return [360 * number / self.rotations for number in range(self.rotations)]

    @property
    def shapes(self) -> list[tuple[int, int, int]]:
        """``(C, H, W)`` of each level at each scale, after the image if it is kept."""
        shapes = self.backbone.shapes(self.input_size, self.levels, self.scales)
        if self.pooled:
            shapes = [(channels, 1, 1) for channels, _, _ in shapes]
        return [(3, self.input_size, self.input_size), *shapes] if self.image else shapes

    @property
    def names(self) -> list[str]:
        """Name of each level at each scale, as its file has it."""
        levels, scales = self.levels or self.backbone.levels, self.scales or self.backbone.scales
        own = [f"level{level}" if scale == 1 else f"level{level}-scale{scale}" for scale in scales for level in levels]
        return ["image", *own] if self.image else own

    def describe(self) -> dict[str, Any]:
        """What ``meta.json`` says of it."""
        return {
            "backbone": self.backbone.name,
            "weights": "random" if self.weights == "random" else "pretrained",
            "weights_source": self.weights,
            "levels": list(self.levels or self.backbone.levels),
            "scales": list(self.scales or self.backbone.scales),
            "interpolation": self.interpolation or self.backbone.interpolation,
            "padding": self.padding,
            "rotations": self.rotations,
            "pooled": self.pooled,
            "image": self.image,
            "shapes": [list(shape) for shape in self.shapes],
            "input_size": self.input_size,
            "mean": list(self.backbone.mean),
            "std": list(self.backbone.std),
        }

    def load_extractor(self, weights_sha256: str | None = None) -> nn.Module:
        """The frozen network, ``(B, 3, S, S)`` to a list of ``(B, C_l, H_l, W_l)``.

        Raises:
            NfbenchError: the weights cannot be had, or are others than those of ``weights_sha256``.
        """
        model = load_backbone(
            self.backbone,
            self.levels or self.backbone.levels,
            self.weights,
            scales=self.scales,
            interpolation=self.interpolation,
            padding=self.padding,
        )
        if weights_sha256 is not None and state_hash(model) != weights_sha256:
            raise NfbenchError(
                f"the weights of backbone '{self.backbone.name}' ({self.weights}) have changed since its features were "
                "cached; extract them again"
            )
        return model

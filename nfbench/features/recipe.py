"""Recipe from image to features: the configuration of a backbone, and what its description and weights add."""

from collections.abc import Sequence
from typing import Self, TypeVar

from nfbench.blocks.features import Features, Rows
from nfbench.config import BackboneConfig
from nfbench.config.backbone import Shape
from nfbench.core.record import Record

__all__ = ["Recipe"]

T = TypeVar("T", bound=Rows)


class Recipe(Record):
    """Everything that determines the features of an image.

    Attributes:
        backbone: its configuration, with the description's values where it leaves them open.
        mean, std: normalization of RGB values in [0, 1].
        level_shapes: ``(C, H, W)`` of each level at each scale, by the name of its file; the image is no level.
        weights_sha256: hash of the extractor's state.
    """

    backbone: BackboneConfig
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    level_shapes: dict[str, Shape]
    weights_sha256: str

    @classmethod
    def of(cls, backbone: BackboneConfig, weights_sha256: str) -> Self:
        """Return the recipe of a backbone with weights of this hash."""
        described = backbone.described
        return cls(
            backbone=backbone.resolved(),
            mean=described.mean,
            std=described.std,
            level_shapes=backbone.level_shapes,
            weights_sha256=weights_sha256,
        )

    @property
    def weights(self) -> str:
        """Kind of weights: ``random``, ``none`` or ``pretrained``."""
        source = self.backbone.weights
        return source if source in {"random", "none"} else "pretrained"

    @property
    def angles(self) -> list[float]:
        """Angles of the rotated views in degrees."""
        return [360 * number / self.backbone.rotations for number in range(self.backbone.rotations)]

    @property
    def views(self) -> tuple[int, ...]:
        """The axis of the rotated views, ``(K,)``; no axis without."""
        return (self.backbone.rotations,) if self.backbone.rotations else ()

    @property
    def arrays(self) -> dict[str, Shape]:
        """Shape of each array of a cache for one image, by name: the image first, where it is kept."""
        image = self.backbone.image_shape
        return {**({"image": image} if image else {}), **self.level_shapes}

    def features(self, arrays: Sequence[T]) -> Features[T]:
        """Features of arrays that come in the order of ``arrays``."""
        first = int(self.backbone.stores_image)
        return Features(arrays[first:], arrays[0] if first else None)

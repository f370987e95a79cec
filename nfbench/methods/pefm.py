"""PEFM: two pretrained networks whose features predict each other (Wan et al., CASE 2022 and TII 2022).

Compared with the description of smiler96/PFM-and-PEFM-for-Image-Anomaly-Detection-and-Segmentation at 89268b6.
Score: at each position and level ``(||a - a'||^2 + ||b - b'||^2) / 2``, with ``a'`` and ``b'`` the predictions of the
networks' unit vectors; the map is the mean over levels, and the image score is its maximum.

Deliberate deviations: one Adam for all levels, which share no parameters, is equivalent to the repository's one per
    level. Images are resized by nfbench's rule. The repository's option to divide residuals by variances, off by
    default, is left out.
"""

from collections.abc import Sequence
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from nfbench.blocks.features import Features
from nfbench.blocks.maps import ImageRule, resize_maps
from nfbench.blocks.method import LevelShape, Method, Scores, Tiny
from nfbench.blocks.positional import sinusoidal_code
from nfbench.blocks.settings import TrainedSettings
from nfbench.config import Choices, Range
from nfbench.core.errors import NfbenchError

__all__ = ["METHOD", "FeatureMapping", "Pefm", "PefmSettings"]

MEMORY = {"parameters": 15, "network": 1e5, "pixels": 1000}
"""See ``nfbench.plan.memory``: hidden layers are wider than the features."""


class PefmSettings(TrainedSettings):
    """Defaults of the repository (PEFM_AD.py), on three levels of two networks at 256 pixels."""

    epochs: int = Field(200, ge=0, description="passes over the training images")
    batch_size: int = Field(16, ge=1, description="images per step")
    lr: float = Field(3e-4, gt=0, description="learning rate of Adam")
    weight_decay: float = Field(1e-5, ge=0, description="L2 penalty of Adam")
    latent_channels: tuple[int, ...] = Field(
        (200, 400, 900), min_length=1, description="channels between the two networks at each level, fine to coarse"
    )
    position_code: bool = Field(True, description="add a position code to the mapped features; PFM adds none")


class FeatureMapping(nn.Module):
    """Map features ``(B, A, H, W)`` of one network to ``(B, B', H, W)`` of the other, and back.

    All convolutions are 1 x 1. Both directions share the middle one, with ``latent`` channels.
    """

    def __init__(self, first: int, second: int, latent: int) -> None:
        super().__init__()
        self.encoders = nn.ModuleList(
            nn.Sequential(_layer(width, width // 2 + latent), _layer(width // 2 + latent, 2 * latent))
            for width in (first, second)
        )
        self.shared = nn.Conv2d(2 * latent, latent, 1)
        self.decoders = nn.ModuleList(
            nn.Sequential(
                _layer(latent, 2 * latent),
                _layer(2 * latent, width // 2 + latent),
                nn.Conv2d(width // 2 + latent, width, 1),
            )
            for width in (second, first)
        )

    def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """Predict the second network's features from ``a``, and the first network's from ``b``."""
        to_b, to_a = (
            decoder(self.shared(encoder(x)))
            for encoder, x, decoder in zip(self.encoders, (a, b), self.decoders, strict=True)
        )
        return to_b, to_a


class Pefm(Method):
    """One mapping per level; the first half of the levels belongs to one network, the second half to the other."""

    title = "PEFM"
    image_rule: ClassVar[ImageRule] = "max"
    settings_type = PefmSettings
    settings: PefmSettings
    tiny = Tiny(
        {"latent_channels": (48, 48), "lr": 1e-2, "batch_size": 5},
        shapes=(LevelShape(8, 4, 4), LevelShape(12, 2, 2), LevelShape(16, 4, 4), LevelShape(20, 2, 2)),
    )
    search_space = {
        "lr": Range(low=1e-5, high=1e-2, log=True),
        "batch_size": Range(low=4, high=32),
        "position_code": Choices(choices=(False, True)),
    }

    def build(self, generator: torch.Generator) -> None:
        """Build the mappings and the position codes."""
        half, latent = len(self.shapes) // 2, self.settings.latent_channels
        pairs = list(zip(self.shapes[:half], self.shapes[half:], strict=False))
        if len(self.shapes) % 2 or any(a[1:] != b[1:] for a, b in pairs):
            raise NfbenchError(
                "method 'pefm' needs the levels of two networks, one network after the other, with equal "
                "sizes; give it the backbone 'resnet34_50'"
            )
        if len(latent) != half:
            raise NfbenchError(
                f"'latent_channels' of method 'pefm' has {len(latent)} values, but each network has {half} levels; "
                "give one for each level"
            )
        if self.settings.position_code and any(shape.channels % 4 for shape in self.shapes):
            raise NfbenchError(
                "'position_code' of method 'pefm' needs levels with channels divisible by 4, got "
                f"{[shape.channels for shape in self.shapes]}; set it to false"
            )
        self.mappings = nn.ModuleList(
            FeatureMapping(a.channels, b.channels, width) for (a, b), width in zip(pairs, latent, strict=True)
        )
        for number, shape in enumerate(self.shapes):
            code = sinusoidal_code(*shape) if self.settings.position_code else torch.zeros(1)
            self.register_buffer(f"code{number}", code, persistent=False)

    def loss(self, features: Features[Tensor]) -> Tensor:
        """Return the mean squared errors of both predictions, summed over levels."""
        errors = [error.mean() for pair in self._errors(features) for error in pair]
        return torch.stack(errors).sum()

    def score(self, features: Features[Tensor]) -> Scores:
        """Return half the squared distances, averaged over levels, and their maximum."""
        maps = [(of_a.sum(1) + of_b.sum(1)) / 2 for of_a, of_b in self._errors(features)]
        mean = resize_maps(maps, self.map_size).mean(0)
        return Scores(mean, mean.flatten(1).amax(1))

    def parameter_groups(self) -> dict[str, Sequence[nn.Parameter]]:
        """Return all parameters, under the mappings."""
        return {"mappings": list(self.mappings.parameters())}

    def _errors(self, features: Features[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Squared errors of the unit vectors of each level, of the first network ``(B, A, H, W)`` and of the second."""
        levels = [functional.normalize(level, dim=1) for level in features.levels]
        coded = [level + self.get_buffer(f"code{number}") for number, level in enumerate(levels)]
        half = len(levels) // 2
        found = []
        for number, mapping in enumerate(self.mappings):
            first, second = number, number + half
            to_b, to_a = mapping(coded[first], coded[second])
            found.append(((levels[first] - to_a).square(), (levels[second] - to_b).square()))
        return found


def _layer(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1), nn.BatchNorm2d(outputs), nn.ReLU())


METHOD = Pefm

"""CS-Flow: one flow through several scales of an image at once (Rudolph et al., WACV 2022, arXiv 2110.02855).

Compared with the description of marco-rudolph/cs-flow at 88a13b8, and with anomalib's port by tests.
Score: mean over all positions, channels and scales of z^2 / 2. Map: mean_c(z_0^2) of the finest scale, up-sampled.

Deliberate deviations: the reverse pass is the exact inverse; the repository's mixes variables. Neither training nor
    scores use it. The run's seed draws the permutations; the repository uses the same in every run.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from nfbench.blocks.cross_scale import cross_scale_subnet
from nfbench.blocks.features import Features
from nfbench.blocks.glow import TwoSidedFlow
from nfbench.blocks.maps import resize_maps
from nfbench.blocks.method import HALF_LOG_TWO_PI, LevelShape, Method, Scores, Tiny
from nfbench.blocks.settings import TrainedSettings
from nfbench.config import Choices, Range
from nfbench.core.errors import NfbenchError

__all__ = ["METHOD", "CSFlow", "CSFlowSettings"]

MEMORY = {"parameters": 900, "network": 7.5e7}
"""See ``nfbench.plan.memory``."""


class CSFlowSettings(TrainedSettings):
    """Defaults of the repository's configuration."""

    epochs: int = Field(240, ge=0, description="passes over the training images")
    batch_size: int = Field(16, ge=1, description="images per step")
    lr: float = Field(2e-4, gt=0, description="learning rate of Adam")
    weight_decay: float = Field(1e-5, ge=0, description="L2 penalty of Adam")
    eps: float = Field(1e-4, gt=0, description="term added to Adam's denominator to avoid division by zero")
    gradient_clip: float | None = Field(
        1.0, gt=0, description="maximum gradient norm of the loss per dimension; null turns clipping off"
    )
    kernel_sizes: tuple[Literal[1, 3, 5, 7, 9], ...] = Field(
        (3, 3, 3, 5), min_length=1, description="kernel size of each coupling block; one block per kernel"
    )
    hidden_channels: int = Field(
        1024, ge=1, description="hidden channels of the cross-scale nets; 64 keeps the method affordable on CPU"
    )
    clamp: float = Field(3.0, gt=0, description="largest absolute log-scale of a coupling")
    localization: Literal["finest", "product"] = Field(
        "finest", description="anomaly map: of the finest scale, or the product of all scales' maps as in anomalib"
    )


class CSFlow(Method):
    """Coupling blocks whose nets see all scales; the energy of all latents scores an image."""

    title = "CS-Flow"
    settings_type = CSFlowSettings
    settings: CSFlowSettings
    tiny = Tiny({"hidden_channels": 24}, shapes=[LevelShape(12, 8, 8), LevelShape(12, 4, 4), LevelShape(12, 2, 2)])
    search_space = {
        "lr": Range(low=1e-5, high=1e-2, log=True),
        "batch_size": Range(low=4, high=32),
        "hidden_channels": Choices(choices=(64, 256, 1024)),
    }

    def build(self, generator: torch.Generator) -> None:
        """Build the flow over all scales."""
        settings = self.settings
        _check_scales(self.shapes)
        subnets = [
            cross_scale_subnet(len(self.shapes), kernel, settings.hidden_channels) for kernel in settings.kernel_sizes
        ]
        self.flow = TwoSidedFlow(self.shapes, subnets=subnets, generator=generator, clamp=settings.clamp)

    def loss(self, features: Features[Tensor]) -> Tensor:
        """Return the mean over the batch of ``(sum_l ||z_l||^2 / 2 - log|det J|) / D``."""
        return self.flow.negative_log_likelihood(features.levels).mean()

    def log_likelihood(self, features: Features[Tensor]) -> Tensor:
        """Return the log-density of the features in nats per dimension, ``(B,)``."""
        return -self.flow.negative_log_likelihood(features.levels) - HALF_LOG_TWO_PI

    def score(self, features: Features[Tensor]) -> Scores:
        """Return the energy of the latents, of the image and of positions, by ``localization``."""
        latents, _ = self.flow(features.levels)
        images = sum(z.square().flatten(1).sum(1) for z in latents) / (2 * self.dimensions)
        level_maps = [z.square().mean(1) for z in latents]
        used = level_maps[:1] if self.settings.localization == "finest" else level_maps
        return Scores(resize_maps(used, self.map_size).prod(0), images, latents)

    def parameter_groups(self) -> dict[str, Sequence[nn.Parameter]]:
        """Return all parameters, under the flow."""
        return {"flow": list(self.flow.parameters())}

    def latent_shapes(self) -> list[tuple[int, ...]]:
        """Shapes of the features, which are those of the latents."""
        return [tuple(shape) for shape in self.shapes]


def _check_scales(shapes: Sequence[LevelShape]) -> None:
    halved = all(
        (finer.channels, finer.height, finer.width) == (coarser.channels, 2 * coarser.height, 2 * coarser.width)
        for finer, coarser in pairwise(shapes)
    )
    if not halved or shapes[0].channels < 2:
        found = ", ".join("x".join(map(str, shape)) for shape in shapes)
        raise NfbenchError(
            "method 'csflow' needs one level of the backbone at several scales of the image, all with the same "
            f"channels (at least 2) and each half the size of the finer one, got {found}; give the backbone "
            "scales: [1, 2, 4], one level, and an input size divisible by the coarsest scale"
        )


METHOD = CSFlow

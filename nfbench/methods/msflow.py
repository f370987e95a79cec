"""MSFlow: parallel flows of three levels, fused by another flow (Zhou et al., IEEE TNNLS 2024, arXiv 2308.15300).

Written from the paper and a description of cool-xuan/msflow at e239755, without its code.
With ``L_l(p) = -mean_c(z_l(p)^2) / 2`` for level l, there are two maps, both relative to the best position of the
image:

- ``addition``: ``max_p A - A`` with ``A = sum_l Up(exp(L_l - max_p L_l))``, the published map for pixel AUROC;
- ``multiplication``: ``1 - exp(B - max_p B)`` with ``B = sum_l Up(L_l)``, the published map for AUPRO. The image score
  is the mean of its top 3 %.

An image that is equally unlikely everywhere thus scores 0. ``reference: train`` takes the maxima over the training
images instead, unlike the paper.

Deliberate deviations:

- Levels are pooled in the method instead of before caching, so that other methods can share the cache.
- The gradient norm is clipped at 1e-6 for the loss per dimension, which is 1.8 for the whole loss at 512 pixels; the
  repository clips at 2. Both clip in every step, and Adam does not depend on a constant factor.
- Maps have the input size. Log-determinants are part of the loss and the likelihood but not of maps, as published.

The paper's features are those of WRN-50-2 with torchvision's weights and reflecting borders in all convolutions, levels
1 to 3, at 512 pixels, transistor at 256 (``workflow/experiments/msflow_mvtec.yaml``).
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from nfbench.blocks.all_in_one import AllInOneStep, ClampRule
from nfbench.blocks.features import Features
from nfbench.blocks.freia import SequenceINN
from nfbench.blocks.fusion import ChannelNorm, FusionStep, convolution
from nfbench.blocks.maps import resize_maps, top_share_mean
from nfbench.blocks.method import HALF_LOG_TWO_PI, Batches, LevelShape, Method, Scores, Tiny
from nfbench.blocks.positional import sinusoidal_code
from nfbench.blocks.settings import Milestones, Schedule, TrainedSettings
from nfbench.config import Choices, Range
from nfbench.core.errors import NfbenchError

__all__ = ["METHOD", "MSFlow", "MSFlowSettings"]

MEMORY = {"parameters": 70, "network": 4e6}
"""See ``nfbench.plan.memory``; the nets also read the position code."""

_TOP_SHARE = 0.03


class MSFlowSettings(TrainedSettings):
    """Defaults of the repository's configuration."""

    epochs: int = Field(100, ge=0, description="passes over the training images")
    batch_size: int = Field(16, ge=1, description="images per step")
    lr: float = Field(1e-4, gt=0, description="learning rate of Adam")
    schedule: Schedule = "warmup_step"
    milestones: Milestones = (0.7, 0.9)
    gamma: float = Field(0.33, gt=0, lt=1, description="factor of the schedules 'step' and 'warmup_step'")
    gradient_clip: float | None = Field(
        1e-6, gt=0, description="maximum gradient norm of the loss per dimension; null turns clipping off"
    )
    level_steps: tuple[int, ...] = Field(
        (2, 5, 8), min_length=1, description="steps of the flow of each level, fine to coarse"
    )
    condition_dim: int = Field(64, ge=4, multiple_of=4, description="channels of the position code")
    clamp: float = Field(1.9, gt=0, description="largest absolute log-scale of a coupling")
    clamp_rule: ClampRule = Field("outer", description="'outer' as FrEIA until 2023-08, 'inner' as FrEIA since then")
    map: Literal["addition", "multiplication"] = Field(
        "addition", description="anomaly map; the image score always uses the multiplication"
    )
    reference: Literal["image", "train"] = Field(
        "image", description="reference of the maps: the best position of the image, or of the training images"
    )


class MSFlow(Method):
    """Conditional flows of the pooled levels, then one step that couples all levels."""

    title = "MSFlow"
    settings_type = MSFlowSettings
    settings: MSFlowSettings
    level_maxima: Tensor
    map_maxima: Tensor
    tiny = Tiny({"level_steps": (1, 1, 2), "condition_dim": 16})
    search_space = {
        "lr": Range(low=1e-5, high=1e-3, log=True),
        "batch_size": Range(low=4, high=32),
        "condition_dim": Choices(choices=(32, 64, 128)),
    }

    def build(self, generator: torch.Generator) -> None:
        """Build the flow of each level, and the fusion.

        Raises:
            NfbenchError: the number of levels differs from that of ``level_steps``, or a number of channels is odd.
        """
        settings = self.settings
        if len(settings.level_steps) != len(self.shapes):
            raise NfbenchError(
                f"method 'msflow' has {len(settings.level_steps)} numbers of 'level_steps' for {len(self.shapes)} "
                "levels; give one for each level of the backbone"
            )
        self.pooled = [LevelShape(c, (height + 1) // 2, (width + 1) // 2) for c, height, width in self.shapes]
        levels = zip(self.pooled, settings.level_steps, strict=True)
        self.flow = nn.ModuleList(self._level(shape, steps, generator) for shape, steps in levels)
        self.fusion = FusionStep(self.pooled, generator=generator, clamp=settings.clamp)
        for level, (_, height, width) in enumerate(self.pooled):
            code = sinusoidal_code(settings.condition_dim, height, width)
            self.register_buffer(f"code_{level}", code, persistent=False)
        self.register_buffer("level_maxima", torch.zeros(len(self.shapes)))
        self.register_buffer("map_maxima", torch.zeros(2))

    def _level(self, shape: LevelShape, steps: int, generator: torch.Generator) -> SequenceINN:
        flow = SequenceINN(*shape)
        for _ in range(steps):
            flow.append(
                AllInOneStep,
                cond=0,
                cond_shape=(self.condition_channels, *shape[1:]),
                subnet=_normalized_subnet,
                generator=generator,
                clamp=self.settings.clamp,
                clamp_rule=self.settings.clamp_rule,
            )
        return flow

    @property
    def condition_channels(self) -> int:
        """Channels of the condition of each level's flow."""
        return self.settings.condition_dim

    @property
    def dimensions(self) -> int:
        """Return the number of values of one image's pooled features."""
        return sum(math.prod(shape) for shape in self.pooled)

    @property
    def loss_scale(self) -> int:
        """Number of dimensions, because the loss is printed in nats per dimension."""
        return self.dimensions

    def latents(self, features: Features[Tensor]) -> tuple[list[Tensor], Tensor]:
        """Latents of the levels after the fusion, ``(B, C_l, H_l, W_l)``, and ``log|det J|`` ``(B,)``."""
        encoded, log_dets = [], []
        for level, (flow, x) in enumerate(zip(self.flow, features.levels, strict=True)):
            pooled = functional.avg_pool2d(x, 3, stride=2, padding=1)  # the zero padding counts in the mean
            code = getattr(self, f"code_{level}").expand(x.shape[0], -1, -1, -1)
            z, log_det = flow(pooled, [code])
            encoded.append(z)
            log_dets.append(log_det)
        fused, log_det = self.fusion(encoded)
        return fused, sum(log_dets, log_det)

    def loss(self, features: Features[Tensor]) -> Tensor:
        """Mean over the batch of ``sum_l ||z_l||^2 / 2 - log|det J|``, not divided by the dimension."""
        return self._negative_log_likelihood(features).mean()

    def log_likelihood(self, features: Features[Tensor]) -> Tensor:
        """Return the log-density of the pooled features in nats per dimension, ``(B,)``."""
        return -self._negative_log_likelihood(features) / self.dimensions - HALF_LOG_TWO_PI

    def _negative_log_likelihood(self, features: Features[Tensor]) -> Tensor:
        latents, log_det = self.latents(features)
        return 0.5 * sum(z.square().flatten(1).sum(1) for z in latents) - log_det

    def score(self, features: Features[Tensor]) -> Scores:
        """Return the map by ``map``, the mean of the top 3 % of the multiplication, and the latents."""
        latents, _ = self.latents(features)
        level_maps = _level_maps(latents)
        if self.settings.reference == "train":
            level_maxima, maxima = self.level_maxima.expand(latents[0].shape[0], -1).T, self.map_maxima[:, None]
        else:
            level_maxima, maxima = _largest(level_maps), None
        added, multiplied = self._normality(level_maps, level_maxima)
        if maxima is None:
            maxima = torch.stack([x.flatten(1).amax(1) for x in (added, multiplied)])
        by_addition, by_multiplication = maxima[0, :, None, None] - added, maxima[1, :, None, None] - multiplied
        by_multiplication = 1 - torch.exp(-by_multiplication.clamp_min(0))
        maps = by_addition if self.settings.map == "addition" else by_multiplication
        return Scores(maps, top_share_mean(by_multiplication, _TOP_SHARE), latents)

    def _normality(self, level_maps: Sequence[Tensor], level_maxima: Tensor) -> tuple[Tensor, Tensor]:
        """``A`` and ``B`` at the input's size, ``(B, H, W)``, given the maxima of each level and image ``(L, B)``."""
        relative = [torch.exp(x - largest[:, None, None]) for x, largest in zip(level_maps, level_maxima, strict=True)]
        added, multiplied = (resize_maps(x, self.map_size, align_corners=True).sum(0) for x in (relative, level_maps))
        return added, multiplied

    @torch.no_grad()
    def calibrate(self, passes: Batches) -> None:
        """Store the maxima over a set of images, if maps are relative to them."""
        if self.settings.reference == "image":
            return
        found = [_largest(_level_maps(self.latents(features)[0])).amax(1) for features in passes()]
        self.level_maxima.copy_(torch.stack(found).amax(0))
        largest = []
        for features in passes():
            level_maps = _level_maps(self.latents(features)[0])
            normality = self._normality(level_maps, self.level_maxima.expand(len(features), -1).T)
            largest.append(torch.stack([x.amax() for x in normality]))
        self.map_maxima.copy_(torch.stack(largest).amax(0))

    def latent_shapes(self) -> list[tuple[int, ...]]:
        """Return the shapes of the pooled levels."""
        return [tuple(shape) for shape in self.pooled]

    def parameter_groups(self) -> dict[str, Sequence[nn.Parameter]]:
        """Return the parameters of the levels' flows, and of their fusion."""
        return {"flow": list(self.flow.parameters()), "fusion": list(self.fusion.parameters())}


def _normalized_subnet(channels_in: int, channels_out: int) -> nn.Module:
    """Convolution, normalization of channels, ReLU, convolution."""
    return nn.Sequential(
        convolution(channels_in, channels_in),
        ChannelNorm(channels_in),
        nn.ReLU(),
        convolution(channels_in, channels_out),
    )


def _level_maps(latents: Sequence[Tensor]) -> list[Tensor]:
    """``L_l`` of each level, ``(B, H_l, W_l)``."""
    return [-0.5 * z.square().mean(1) for z in latents]


def _largest(level_maps: Sequence[Tensor]) -> Tensor:
    """Maximum of each level and image, ``(L, B)``."""
    return torch.stack([x.flatten(1).amax(1) for x in level_maps])


METHOD = MSFlow

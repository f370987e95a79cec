"""What flows on feature maps share: normalization of the features, likelihood, and the score of white latents."""

import math
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from nfbench.flows.all_in_one import ClampRule, Permutation
from nfbench.flows.subnets import conv_subnet
from nfbench.methods.base import LevelShape, Method, MethodSettings, Scores

__all__ = ["FlowMethod", "FlowSettings"]

_HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)


class FlowSettings(MethodSettings):
    """Settings of flows made of all-in-one steps with convolutional subnets."""

    flow_steps: int = Field(ge=1, description="steps per level or stage")
    kernels: Literal["alternating", "3x3"] = Field(
        "alternating", description="subnet kernels: 3x3 and 1x1 in turn, or 3x3 in all steps"
    )
    hidden_ratio: float = Field(1.0, gt=0, description="hidden channels as a share of the subnet's input channels")
    clamp: float = Field(2.0, gt=0, description="largest absolute log-scale of a coupling")
    clamp_rule: ClampRule = Field("outer", description="'outer' as published, 'inner' as FrEIA since 2023-08")
    permutation: Permutation = Field("hard", description="fixed permutation of channels, or fixed rotation")
    normalization: Literal["layer_norm", "standardize", "none"] = Field(
        "layer_norm",
        description="of the features: trained LayerNorm over (C, H, W), or per channel by the training images",
    )


class Standardize(nn.Module):
    """Shifts and scales each channel to mean 0 and variance 1 over the training images' positions."""

    def __init__(self, shape: LevelShape) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(shape.channels, 1, 1))
        self.register_buffer("std", torch.ones(shape.channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` to the same shape."""
        return (x - self.mean) / self.std


class FlowMethod(Method):
    """A flow from normalized features to independent standard normal latents."""

    settings: FlowSettings

    def __init__(
        self,
        shapes: Sequence[LevelShape],
        settings: FlowSettings,
        map_size: tuple[int, int],
        generator: torch.Generator,
    ) -> None:
        super().__init__(shapes, settings, map_size, generator)
        self.normalization = nn.ModuleList(_normalization(settings.normalization, shape) for shape in shapes)
        self.flow = self.build_flow(generator)

    @abstractmethod
    def build_flow(self, generator: torch.Generator) -> nn.Module:
        """Builds the flow for ``self.shapes``."""

    @abstractmethod
    def encode(self, features: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
        """Latents by level, fine to coarse, each ``(B, C_l, H_l, W_l)``, and ``log|det J|`` of shape ``(B,)``.

        ``features`` are normalized already.
        """

    def step_arguments(self, index: int, generator: torch.Generator) -> dict[str, Any]:
        """Arguments of ``AllInOneStep`` for step ``index`` of a level or stage: kernels alternate from 3 x 3."""
        settings = self.settings
        kernel = 1 if settings.kernels == "alternating" and index % 2 else 3
        return {
            "subnet": conv_subnet(kernel, settings.hidden_ratio),
            "generator": generator,
            "clamp": settings.clamp,
            "clamp_rule": settings.clamp_rule,
            "permutation": settings.permutation,
        }

    def latents(self, features: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
        """Normalizes the features and encodes them."""
        return self.encode([norm(x) for norm, x in zip(self.normalization, features, strict=True)])

    def loss(self, features: Sequence[Tensor]) -> Tensor:
        """Mean over the batch of ``sum_l ||z_l||^2 / 2 - log|det J|``, not divided by the dimension."""
        return self._negative_log_likelihood(features).mean()

    def log_likelihood(self, features: Sequence[Tensor]) -> Tensor:
        """Log-density of the normalized features in nats per dimension, ``(B,)``."""
        dimensions = sum(math.prod(shape) for shape in self.shapes)
        return -self._negative_log_likelihood(features) / dimensions - _HALF_LOG_TWO_PI

    def score(self, features: Sequence[Tensor]) -> Scores:
        """Map ``1 - mean_l Up(exp(-mean_c(z_l^2) / 2))`` in [0, 1]; the image score is its maximum.

        Bilinear up-sampling, pixel centres aligned. The mean over channels, not the sum, keeps ``exp`` from underflow.
        """
        latents, _ = self.latents(features)
        densities = [torch.exp(-0.5 * z.square().mean(dim=1, keepdim=True)) for z in latents]
        resized = [functional.interpolate(p, self.map_size, mode="bilinear") for p in densities]
        maps = 1 - torch.cat(resized, dim=1).mean(dim=1)
        return Scores(maps, maps.flatten(1).amax(dim=1))

    def prepare(self, batches: Iterable[list[Tensor]]) -> None:
        """Fits mean and standard deviation of each channel where the features are standardized."""
        if self.settings.normalization != "standardize":
            return
        moments = [torch.zeros(2, shape.channels, dtype=torch.float64) for shape in self.shapes]
        images = 0
        for features in batches:
            images += len(features[0])
            for moment, x in zip(moments, features, strict=True):
                values = x.double()
                moment.add_(torch.stack([values.sum((0, 2, 3)), values.square().sum((0, 2, 3))]).cpu())
        for norm, moment, shape in zip(self.normalization, moments, self.shapes, strict=True):
            mean, square = moment / (images * shape.height * shape.width)
            std = (square - mean.square()).clamp_min(1e-12).sqrt()
            norm.mean.copy_(mean.view(-1, 1, 1))
            norm.std.copy_(std.view(-1, 1, 1))

    def parameter_groups(self) -> dict[str, Sequence[nn.Parameter]]:
        """Parameters of the flow and of the trained normalization."""
        return {"flow": list(self.flow.parameters()), "normalization": list(self.normalization.parameters())}

    def _negative_log_likelihood(self, features: Sequence[Tensor]) -> Tensor:
        latents, log_det = self.latents(features)
        energy = sum(z.square().flatten(1).sum(1) for z in latents)
        return 0.5 * energy - log_det


def _normalization(kind: str, shape: LevelShape) -> nn.Module:
    if kind == "layer_norm":
        return nn.LayerNorm(tuple(shape))
    return Standardize(shape) if kind == "standardize" else nn.Identity()

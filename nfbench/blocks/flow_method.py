"""Common parts of flows on feature maps: settings, likelihood, and scores from white latents."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, Literal, Self, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from nfbench.blocks.all_in_one import ClampRule, Coupling, Permutation
from nfbench.blocks.bases import BASE_RATE, Base, ChannelBase, fit_bases, is_turn_of_base
from nfbench.blocks.features import Features
from nfbench.blocks.maps import ImageRule, image_scores, resize_maps, smooth
from nfbench.blocks.method import HALF_LOG_TWO_PI, Batch, Batches, Method, ParameterGroup, Passes, Scores, Tiny
from nfbench.blocks.normalization import (
    Normalization,
    build_normalization,
    check_normalization,
    fit_normalizations,
    log_det_map,
)
from nfbench.blocks.settings import TrainedSettings
from nfbench.blocks.subnets import conv_subnet
from nfbench.config import Choices, Range

__all__ = ["FlowMethod", "FlowSettings", "SteppedFlowMethod", "SteppedFlowSettings"]


class FlowSettings(TrainedSettings):
    """Settings of flows on feature maps."""

    normalization: Normalization = Field(
        "layer_norm",
        description="normalization of the features: layer_norm (trained), counted_layer_norm (trained, its scales in "
        "the log-determinant), standardize, whiten (both fitted), none",
    )
    base: Base = Field(
        "standard",
        description="base distribution: standard normal; AltUB's mean and scale per channel, learned by gradient every "
        "fifth epoch; or the same fitted to the training images after training",
    )
    smoothing: float = Field(
        0.0, ge=0, description="sigma of a Gaussian on the anomaly map, as a share of its shorter side"
    )
    image_score: Literal["max", "top1"] = Field(
        "max", description="image score: maximum of the anomaly map, or mean of its top 1 %"
    )


class SteppedFlowSettings(FlowSettings):
    """Settings of flows made of all-in-one steps with convolutional subnets."""

    flow_steps: int = Field(ge=1, description="steps per level or stage")
    kernels: Literal["alternating", "3x3"] = Field(
        "alternating", description="subnet kernels: 3x3 and 1x1 in turn, or 3x3 in all steps"
    )
    hidden_ratio: float = Field(1.0, gt=0, description="hidden channels as a share of the subnet's input channels")
    clamp: float = Field(2.0, gt=0, description="largest absolute log-scale of a coupling")
    clamp_rule: ClampRule = Field("outer", description="'outer' as published, 'inner' as FrEIA since 2023-08")
    permutation: Permutation = Field("hard", description="fixed permutation of channels, or fixed rotation")
    coupling: Coupling = Field(
        "affine",
        description="affine; additive or gin, with the same log-determinant for all images",
    )

    @model_validator(mode="after")
    def _fitted(self) -> Self:
        check_normalization(self.coupling, self.normalization)
        return self


class FlowMethod(Method):
    """A flow from normalized features to independent standard normal latents."""

    settings: FlowSettings
    search_space = {
        "lr": Range(low=1e-5, high=1e-2, log=True),
        "batch_size": Range(low=4, high=32),
    }

    def build(self, generator: torch.Generator) -> None:
        """Build the normalization and the flow."""
        self.normalization = nn.ModuleList(
            build_normalization(self.settings.normalization, shape) for shape in self.shapes
        )
        self.flow = self.build_flow(generator)
        self.base = nn.ModuleList()
        if self.settings.base != "standard":
            trained = self.settings.base == "learned"
            self.base.extend(ChannelBase(shape[0], trained) for shape in self.latent_shapes())

    @property
    def loss_scale(self) -> int:
        """Number of dimensions, because the loss is printed in nats per dimension."""
        return self.dimensions

    @property
    def image_rule(self) -> ImageRule:
        """How image scores follow from maps; see ``ScoresByMap``."""
        return self.settings.image_score

    @abstractmethod
    def build_flow(self, generator: torch.Generator) -> nn.Module:
        """Build the flow for ``self.shapes``."""

    @abstractmethod
    def encode(self, levels: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
        """Latents of normalized levels, each ``(B, C_l, H_l, W_l)``, fine to coarse, and ``log|det J|`` ``(B,)``."""

    def normalize(self, features: Features[Tensor]) -> list[Tensor]:
        """Levels in the layout of the flow's input."""
        return [norm(x) for norm, x in zip(self.normalization, features.levels, strict=True)]

    def encode_features(self, features: Features[Tensor]) -> tuple[list[Tensor], Tensor]:
        """Normalize the features and encode them; ``log|det J|`` includes counted normalization scales."""
        latents, log_det = self.encode(self.normalize(features))
        counted = [log_det_map(norm) for norm in self.normalization]
        return latents, log_det + sum(x.sum() for x in counted if isinstance(x, Tensor))

    def latents(self, features: Features[Tensor]) -> tuple[list[Tensor], Tensor]:
        """Latents relative to the base, and ``log|det J|`` from features to them."""
        return self._relative_to_base(*self.encode_features(features))

    def _relative_to_base(
        self, encoded: list[Tensor], log_det: Tensor, fixed: bool = False
    ) -> tuple[list[Tensor], Tensor]:
        if not self.base:
            return encoded, log_det
        found = [base(z, fixed) for base, z in zip(self.base, encoded, strict=True)]
        return [z for z, _ in found], log_det + sum(own * z.shape[2] * z.shape[3] for z, own in found)

    def losses(self, batch: Batch, generator: torch.Generator) -> Iterator[Tensor]:
        """Yield the loss; with a learned base, one epoch in five trains the base alone, the others leave it."""
        if self.settings.base != "learned":
            yield self.loss(batch.features)
            return
        of_base = is_turn_of_base(batch.progress, self.settings.epochs)
        with torch.set_grad_enabled(not of_base):
            encoded, log_det = self.encode_features(batch.features)
        yield _negative_log_density(*self._relative_to_base(encoded, log_det, fixed=not of_base)).mean()

    def loss(self, features: Features[Tensor]) -> Tensor:
        """Mean over the batch of ``sum_l ||z_l||^2 / 2 - log|det J|``, not divided by the dimension."""
        return self._negative_log_likelihood(features).mean()

    def log_likelihood(self, features: Features[Tensor]) -> Tensor:
        """Log-density of the normalized features in nats per dimension, ``(B,)``."""
        return -self._negative_log_likelihood(features) / self.dimensions - HALF_LOG_TWO_PI

    def score(self, features: Features[Tensor]) -> Scores:
        """Average the levels' maps, resized bilinearly to ``map_size``, and score images by ``image_score``."""
        level_maps, latents = self.level_maps(features)
        mean = resize_maps(level_maps, self.map_size).mean(0)
        maps = smooth(mean, self.settings.smoothing * min(self.map_size))
        return Scores(maps, image_scores(maps, self.settings.image_score), latents)

    def level_maps(self, features: Features[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Return anomaly maps ``1 - exp(-mean_c(z_l^2) / 2)``, ``(B, H_l, W_l)`` in [0, 1], and the latents, by level.

        The mean over channels, instead of the sum, avoids underflow of ``exp``.
        """
        latents, _ = self.latents(features)
        return [1 - torch.exp(-0.5 * z.square().mean(dim=1)) for z in latents], latents

    def prepare(self, passes: Passes) -> None:
        """Fit the normalization if it uses statistics of the training features."""
        fit_normalizations(self.normalization, passes)

    @torch.no_grad()
    def calibrate(self, passes: Batches) -> None:
        """Fit the base if it has statistics of the training images."""
        if self.settings.base == "fitted":
            fit_bases(self._bases, (self.encode_features(features)[0] for features in passes()))

    def train(self, mode: bool = True) -> Self:
        """Set the mode; training resets a fitted base, which belongs to one state of the flow."""
        if mode and self.settings.base == "fitted":
            for base in self._bases:
                base.reset()
        return super().train(mode)

    @property
    def _bases(self) -> list[ChannelBase]:
        return cast(list[ChannelBase], list(self.base))

    @torch.inference_mode()
    def latent_shapes(self) -> list[tuple[int, ...]]:
        """Shape of each level's latent, fine to coarse."""
        like = next(self.parameters())
        latents, _ = self.latents(Features([like.new_zeros(1, *shape) for shape in self.shapes]))
        return [tuple(z.shape[1:]) for z in latents]

    def parameter_groups(self) -> dict[str, Sequence[nn.Parameter]]:
        """Parameters of the flow, of the trained normalization, and of the learned base if there is one."""
        found: dict[str, Sequence[nn.Parameter]] = {
            "flow": list(self.flow.parameters()),
            "normalization": list(self.normalization.parameters()),
        }
        return {**found, "base": list(self.base.parameters())} if self.settings.base == "learned" else found

    def optimizer_groups(self) -> list[ParameterGroup]:
        """One group; the learned base has one of its own, at five times the learning rate and without decay."""
        base = list(self.base.parameters())
        own = {id(parameter) for parameter in base}
        others = [p for p in self.parameters() if p.requires_grad and id(p) not in own]
        groups = [ParameterGroup(others, weight_decay=self.settings.weight_decay)]
        return [*groups, ParameterGroup(base, lr_factor=BASE_RATE)] if base else groups

    def _negative_log_likelihood(self, features: Features[Tensor]) -> Tensor:
        return _negative_log_density(*self.latents(features))


def _negative_log_density(latents: Sequence[Tensor], log_det: Tensor) -> Tensor:
    """``sum_l ||z_l||^2 / 2 - log|det J|`` of each image, ``(B,)``."""
    energy = sum(z.square().flatten(1).sum(1) for z in latents)
    return 0.5 * energy - log_det


class SteppedFlowMethod(FlowMethod):
    """A flow made of all-in-one steps."""

    settings: SteppedFlowSettings
    tiny = Tiny({"flow_steps": 4})
    search_space = {
        **FlowMethod.search_space,
        "flow_steps": Choices(choices=(4, 6, 8)),
        "hidden_ratio": Choices(choices=(0.16, 0.5, 1.0)),
        "kernels": Choices(choices=("alternating", "3x3")),
    }

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
            "coupling": settings.coupling,
        }

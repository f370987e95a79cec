"""Common parts of CFLOW-AD and its descendants: conditional flows on fibres, and likelihood anomaly maps.

A fibre is the feature vector of one position. Each level has a flow from its fibres to standard normal vectors,
conditioned on a code of the position. Fibres of a batch are numbered image by image, row by row.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from nfbench.blocks.all_in_one import AllInOneStep, ClampRule, Coupling, Permutation
from nfbench.blocks.exporting import parts_of
from nfbench.blocks.features import Features
from nfbench.blocks.freia import SequenceINN
from nfbench.blocks.maps import resize_maps
from nfbench.blocks.method import HALF_LOG_TWO_PI, Batches, LevelShape, Method, ParameterGroup, Passes, Scores, Tiny
from nfbench.blocks.normalization import build_normalization, check_normalization, fit_normalizations
from nfbench.blocks.positional import sinusoidal_code
from nfbench.blocks.settings import Schedule, TrainedSettings
from nfbench.blocks.subnets import fc_subnet
from nfbench.config import Choices, Range

__all__ = [
    "FibreFlowMethod",
    "FibreFlowSettings",
    "fibre_chunks",
    "likelihood_map",
    "log_density",
    "normality_map",
    "position_mask",
    "to_fibres",
]

_SCORED_FIBRES = 4096
_LARGEST_EXPONENT = 80.0  # its exp is finite in float32


class FibreFlowSettings(TrainedSettings):
    """Settings of conditional flows on fibres; defaults of CFLOW-AD."""

    lr: float = Field(2e-4, gt=0, description="learning rate of Adam")
    schedule: Schedule = "warmup_cosine"
    drop_last: bool = Field(True, description="leave out the last, incomplete batch of an epoch")
    resting_levels: Literal["still", "moving"] = Field(
        "moving",
        description="weights of a level while another one is trained: fixed, or moved by Adam's momentum as published",
    )
    coupling_blocks: int = Field(8, ge=1, description="steps per level")
    condition_dim: int = Field(128, ge=4, multiple_of=4, description="channels of the position code")
    clamp: float = Field(1.9, gt=0, description="largest absolute log-scale of a coupling")
    clamp_rule: ClampRule = Field("outer", description="'outer' as published, 'inner' as FrEIA since 2023-08")
    permutation: Permutation = Field("soft", description="fixed rotation of channels (soft), or permutation (hard)")
    coupling: Coupling = Field(
        "affine", description="affine; additive or gin, with the same log-determinant for all fibres"
    )
    normalization: Literal["none", "standardize"] = Field(
        "none",
        description="normalization of the features: none as published, or mean 0 and variance 1 per channel (fitted)",
    )

    @model_validator(mode="after")
    def _fitted(self) -> Self:
        check_normalization(self.coupling, self.normalization)
        return self


class FibreFlowMethod(Method):
    """One conditional flow of ``coupling_blocks`` all-in-one steps per level."""

    transductive = True
    settings: FibreFlowSettings
    reference: Tensor
    tiny = Tiny({"coupling_blocks": 4, "condition_dim": 16})
    search_space = {
        "lr": Range(low=1e-5, high=1e-2, log=True),
        "batch_size": Range(low=4, high=64),
        "coupling_blocks": Choices(choices=(4, 8, 12)),
        "condition_dim": Choices(choices=(64, 128, 256, 512)),
    }

    def build(self, generator: torch.Generator) -> None:
        """Build the normalization and the flow of each level."""
        self.normalization = nn.ModuleList(
            build_normalization(self.settings.normalization, LevelShape(shape.channels, 1, 1)) for shape in self.shapes
        )
        self.flow = nn.ModuleList(self._level(shape.channels, generator) for shape in self.shapes)
        for level, (_, height, width) in enumerate(self.shapes):
            code = sinusoidal_code(self.settings.condition_dim, height, width).flatten(1).T.contiguous()
            self.register_buffer(f"code_{level}", code, persistent=False)
        self.register_buffer("reference", torch.zeros(len(self.shapes), dtype=torch.float64))

    def _level(self, channels: int, generator: torch.Generator) -> SequenceINN:
        settings = self.settings
        level = SequenceINN(channels)
        for _ in range(settings.coupling_blocks):
            level.append(
                AllInOneStep,
                cond=0,
                cond_shape=(settings.condition_dim,),
                subnet=fc_subnet(),
                generator=generator,
                clamp=settings.clamp,
                clamp_rule=settings.clamp_rule,
                permutation=settings.permutation,
                coupling=settings.coupling,
            )
        return level

    def prepare(self, passes: Passes) -> None:
        """Fit the normalization if it has statistics of the training features."""
        fit_normalizations(self.normalization, passes)

    def encode(self, level: int, fibres: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Latents ``(N, C)`` and ``log|det J|`` ``(N,)`` of some rows ``(N,)`` of a level's fibres ``(B*H*W, C)``."""
        code = getattr(self, f"code_{level}")
        x = self.normalization[level](fibres[rows][..., None, None]).flatten(1)
        return self.flow[level](x, [code[rows % len(code)]])

    def encode_levels(self, levels: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Latents ``(B, C, H, W)`` and each position's ``log|det J|`` ``(B, H, W)``, level by level.

        Fibres are encoded in chunks to bound the memory of hidden layers.
        """
        for level, x in enumerate(levels):
            batch, channels, height, width = x.shape
            fibres = to_fibres(x)
            chunks = parts_of(torch.arange(fibres.shape[0], device=x.device), _SCORED_FIBRES)
            encoded = [self.encode(level, fibres, rows) for rows in chunks]
            z, log_det = (torch.cat(parts) for parts in zip(*encoded, strict=True))
            yield z.view(batch, height, width, channels).permute(0, 3, 1, 2), log_det.view(batch, height, width)

    def position_log_likelihoods(self, features: Features[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Latents ``(B, C, H, W)``, standard normal, and log-likelihoods of positions, level by level.

        Log-likelihoods, ``(B, H, W)`` in nats per dimension, refer to the density of normal images.
        """
        for z, log_det in self.encode_levels(features.levels):
            yield z, log_density(z, log_det) / z.shape[1]

    def log_likelihood(self, features: Features[Tensor]) -> Tensor:
        """Joint log-density of all fibres, taken as independent, in nats per dimension, ``(B,)``."""
        first, *others = [
            z.shape[1] * values.flatten(1).sum(1) for z, values in self.position_log_likelihoods(features)
        ]
        return sum(others, first) / self.dimensions

    def scored_positions(self, features: Features[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Latents and the scored quantity of each position; by default the log-likelihoods."""
        return self.position_log_likelihoods(features)

    @torch.no_grad()
    def calibrate(self, passes: Batches) -> None:
        """Store each level's largest log-likelihood per dimension over all positions of a set of images."""
        maxima = [
            torch.stack([values.amax() for _, values in self.scored_positions(features)]) for features in passes()
        ]
        self.reference.copy_(torch.stack(maxima).amax(0))

    def score(self, features: Features[Tensor]) -> Scores:
        """``likelihood_map`` of the log-likelihoods per dimension, its maximum, and the latents."""
        latents, log_likelihoods = zip(*self.scored_positions(features), strict=True)
        maps = likelihood_map(log_likelihoods, self.reference, self.map_size)
        return Scores(maps, maps.flatten(1).amax(1), latents)

    def latent_shapes(self) -> list[tuple[int, ...]]:
        """Shapes of the features, which are those of the latents."""
        return [tuple(shape) for shape in self.shapes]

    def parameter_groups(self) -> dict[str, Sequence[nn.Parameter]]:
        """Parameters of all levels' flows."""
        return {"flow": list(self.flow.parameters())}

    def optimizer_groups(self) -> list[ParameterGroup]:
        """One group for each level's flow, and one for the parameters that all levels share."""
        decay = self.settings.weight_decay
        groups = self.level_groups(self.flow, decay)
        of_levels = {id(parameter) for group in groups for parameter in group.parameters}
        shared = [p for p in self.parameters() if p.requires_grad and id(p) not in of_levels]
        return [*groups, *([ParameterGroup(shared, weight_decay=decay)] if shared else [])]

    def level_groups(self, parts: Iterable[nn.Module], weight_decay: float = 0.0) -> list[ParameterGroup]:
        """One group for the trained parameters of each level's part; ``resting_levels`` says if they move at rest."""
        moving = self.settings.resting_levels == "moving"
        trained = [[p for p in part.parameters() if p.requires_grad] for part in parts]
        return [
            ParameterGroup(parameters, weight_decay=weight_decay, used_by=flow if moving else None)
            for flow, parameters in zip(self.flow, trained, strict=True)
            if parameters
        ]


def to_fibres(x: Tensor) -> Tensor:
    """Feature vectors of all positions: ``(B, C, H, W)`` to ``(B*H*W, C)``."""
    return x.permute(0, 2, 3, 1).flatten(0, 2)


def fibre_chunks(count: int, size: int, generator: torch.Generator) -> Sequence[Tensor]:
    """Shuffle the rows of ``count`` fibres and split them into chunks of ``size``; drop an incomplete last chunk.

    If there are fewer fibres than ``size``, one chunk holds all of them.
    """
    order = torch.randperm(count, generator=generator, device=generator.device)
    return order[: max(1, count // size) * size].split(size)


def log_density(z: Tensor, log_det: Tensor) -> Tensor:
    """``log N(z; 0, I) + log|det J|`` of fibres; ``z`` has the shape of ``log_det`` plus the channels on axis 1."""
    return -HALF_LOG_TWO_PI * z.shape[1] - 0.5 * z.square().sum(1) + log_det


def position_mask(masks: Tensor, size: Sequence[int]) -> Tensor:
    """Anomalous positions, ``(B, H, W)`` bool: the nearest pixel of the mask ``(B, H, W)`` is above 0."""
    return functional.interpolate(masks[:, None], size, mode="nearest")[:, 0] > 0


def likelihood_map(log_likelihoods: Sequence[Tensor], reference: Tensor, size: tuple[int, int]) -> Tensor:
    """Anomaly map ``L - sum_l Up(exp(log_likelihood_l - reference_l))``, in float64, ``(B, H, W)``.

    The exponent is clamped; this affects only positions far above the reference, not anomalous ones.

    Args:
        log_likelihoods: log-likelihoods of the positions of each level, ``(B, H_l, W_l)``, in nats per dimension.
        reference: largest log-likelihood of each level over a set of images, ``(L,)``.
        size: height and width of the map; levels are up-sampled bilinearly with aligned corners.
    """
    return len(log_likelihoods) - normality_map(log_likelihoods, reference, size)


def normality_map(log_likelihoods: Sequence[Tensor], reference: Tensor, size: tuple[int, int]) -> Tensor:
    """``sum_l Up(exp(log_likelihood_l - reference_l))``; see ``likelihood_map``.

    ``reference`` may hold a value for each image, ``(L, B, 1, 1)``.
    """
    normality = [
        (values.double() - largest).clamp_max(_LARGEST_EXPONENT).exp()
        for values, largest in zip(log_likelihoods, reference, strict=True)
    ]
    return resize_maps(normality, size, align_corners=True).sum(0)

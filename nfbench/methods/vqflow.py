"""VQ-Flow: MSFlow for all categories at once, conditioned on quantized patterns (Zhou et al., 2024, arXiv 2409.00942).

Written from the description of cool-xuan/vqflow at 02257e9, whose code states no licence, without its code. The model
gets no labels of classes. Levels but the last are pooled and modelled as by MSFlow; the last one, the top, conditions:

1. its average over positions goes through two layers, to the nearest of 32 prototypes: ``p``, one an image;
2. of each level, ``h_l`` is two 1 x 1 convolutions of it, plus the top through one, resized, and another one;
3. ``c_l = q + Q_l(h_l - q)``, with ``q`` the code of the position and ``p``, and ``Q_l`` the nearest of 512 patterns;
4. ``c_l`` and ``p`` are the condition of the flow's steps, those of the top condition the fusion;
5. ``z_l <- (z_l - mu_l) / sqrt(sigma_l^2 + 1e-8)`` before the fusion, both linear in ``p``: a mixture over prototypes.

Maps and image score are MSFlow's.

Deliberate deviations:

- ``sum(ln sigma_l)`` is in the log-determinant. The repository leaves it out, and a larger ``sigma_l`` then lowers the
  loss of any data. ``sigma_l`` starts at 1, and ``mu_l`` at 0.
- In evaluation, conditions are the codes themselves, constant around almost every image, so that the log-determinant is
  that of the whole map. In training, gradients pass by the quantization.
- The warm-up is MSFlow's, 12 % of the epochs, where the repository has 10 of 60. Its milestones are never reached.
- The first codes are standard normal. A training batch of one image takes the running statistics of prototypes.
- The top is resized bilinearly; where it is not as large as the coarsest pooled level, it is averaged to its size.

The published features are those of ConvNeXtV2-B at 384 pixels (``workflow/experiments/vqflow_mvtec.yaml``), whose
weights exclude commercial use; ConvNeXt-B has the same shapes.
"""

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from nfbench.blocks.features import Features
from nfbench.blocks.fusion import FusionStep
from nfbench.blocks.method import LevelShape, Tiny
from nfbench.blocks.positional import sinusoidal_code
from nfbench.blocks.quantization import Quantizer
from nfbench.blocks.resampling import resampled
from nfbench.blocks.settings import Milestones
from nfbench.config import Choices, Range
from nfbench.core.errors import NfbenchError
from nfbench.methods.msflow import MSFlow, MSFlowSettings

__all__ = ["METHOD", "VQFlow", "VQFlowSettings"]

MEMORY = {"parameters": 108, "network": 2.51e8}
"""See ``nfbench.plan.memory``; the first convolution of a step takes 1,088 channels of condition."""

_SMALLEST_VARIANCE = 1e-8


class VQFlowSettings(MSFlowSettings):
    """Defaults of the repository's command line."""

    epochs: int = Field(60, ge=0, description="passes over the training images, fixed beforehand")
    milestones: Milestones = ()
    gradient_clip: float | None = Field(
        4e-6, gt=0, description="largest norm of the gradient of the loss per dimension, off when null"
    )
    drop_last: bool = Field(True, description="leave out the last, incomplete batch of an epoch")
    level_steps: tuple[int, ...] = Field(
        (2, 5, 8), min_length=1, description="steps of the flow of each level but the last one, fine to coarse"
    )
    prototypes: int = Field(32, ge=1, description="codes of whole images")
    patterns: int = Field(512, ge=1, description="codes of the positions of each level")
    prototype_dim: int = Field(512, ge=1, description="length of a prototype")


class VQFlow(MSFlow):
    """MSFlow's flows and fusion, conditioned on prototypes and patterns."""

    title = "VQ-Flow"
    settings_type = VQFlowSettings
    settings: VQFlowSettings
    tiny = Tiny(
        {"level_steps": (1, 2), "condition_dim": 16, "prototypes": 4, "patterns": 8, "prototype_dim": 12},
    )
    search_space = {
        "lr": Range(low=1e-5, high=1e-3, log=True),
        "batch_size": Range(low=4, high=32),
        "prototypes": Choices(choices=(16, 32, 64)),
        "patterns": Choices(choices=(128, 512, 1024)),
    }

    def build(self, generator: torch.Generator) -> None:
        """Build prototypes, patterns, the flow of each level but the last, and the fusion.

        Raises:
            NfbenchError: not one level more than ``level_steps`` has, or an odd number of channels.
        """
        settings = self.settings
        if len(settings.level_steps) + 1 != len(self.shapes):
            raise NfbenchError(
                f"method 'vqflow' takes one level more than 'level_steps' has, {len(settings.level_steps) + 1}, the "
                f"last one as condition, but got {len(self.shapes)}; give that many levels of the backbone"
            )
        self.pooled = [LevelShape(c, (height + 1) // 2, (width + 1) // 2) for c, height, width in self.shapes[:-1]]
        dim, top = settings.prototype_dim, self.shapes[-1]
        self.width = settings.condition_dim + dim
        self.concept, self.prototypes = _concept(top.channels, dim), Quantizer(settings.prototypes, dim, generator)
        self.hidden = nn.ModuleList(_two_layers(shape.channels, self.width) for shape in [*self.pooled, top])
        self.of_top = _layer(top.channels, self.width)
        self.joins = nn.ModuleList(nn.Conv2d(self.width, self.width, 1) for _ in self.pooled)
        self.patterns = nn.ModuleList(Quantizer(settings.patterns, self.width, generator) for _ in self.hidden)
        self.mixture = nn.ModuleList(_mixture(dim, shape.channels) for shape in self.pooled)
        levels = zip(self.pooled, settings.level_steps, strict=True)
        self.flow = nn.ModuleList(self._level(shape, steps, generator) for shape, steps in levels)
        given = [(self.width + dim, *self.pooled[-1][1:])]
        self.fusion = FusionStep(self.pooled, given, generator=generator, clamp=settings.clamp)
        for level, (_, height, width) in enumerate([*self.pooled, top]):
            code = sinusoidal_code(settings.condition_dim, height, width)
            self.register_buffer(f"code_{level}", code, persistent=False)
        self.register_buffer("level_maxima", torch.zeros(len(self.pooled)))
        self.register_buffer("map_maxima", torch.zeros(2))

    @property
    def condition_channels(self) -> int:
        """Channels of the pattern and of the prototype."""
        return self.width + self.settings.prototype_dim

    def conditions(self, levels: Sequence[Tensor], top: Tensor) -> tuple[list[Tensor], Tensor, Tensor]:
        """Conditions of pooled levels and of the top.

        Returns:
            ``(B, C, H_l, W_l)`` of each level and of the top, the prototypes ``(B, D)``, and the sum of what pulls
            vectors to their codes.
        """
        prototype, commitment = self.prototypes(self.concept(top.mean((2, 3))))
        coarse, found = self.of_top(top), []
        for level, x in enumerate([*levels, top]):
            hidden = self.hidden[level](x)
            if level < len(levels):
                hidden = hidden + self.joins[level](resampled(coarse, (x.shape[2], x.shape[3]), "bilinear"))
            code = getattr(self, f"code_{level}").expand(x.shape[0], -1, -1, -1)
            spread = prototype[:, :, None, None].expand(-1, -1, *x.shape[2:])
            query = torch.cat([code, spread], dim=1)
            vectors = (hidden - query).permute(0, 2, 3, 1)
            quantized, pull = self.patterns[level](vectors.flatten(0, 2))
            pattern = query + quantized.view(vectors.shape).permute(0, 3, 1, 2)
            found.append(torch.cat([pattern, spread], dim=1))
            commitment = commitment + pull
        return found, prototype, commitment

    def encode(self, features: Features[Tensor]) -> tuple[list[Tensor], Tensor, Tensor]:
        """Latents of the levels after the fusion, ``log|det J|`` ``(B,)``, and the pull to the codes, a scalar."""
        *levels, top = features.levels
        pooled = [functional.avg_pool2d(x, 3, stride=2, padding=1) for x in levels]  # zeros beyond the border count
        conditions, prototype, commitment = self.conditions(pooled, top)
        encoded, log_dets = [], []
        for level, x in enumerate(pooled):
            z, log_det = self.flow[level](x, [conditions[level]])
            mean, sigma = self.mixture[level](prototype).chunk(2, dim=1)
            variance = sigma.square() + _SMALLEST_VARIANCE
            encoded.append((z - mean[:, :, None, None]) * variance.rsqrt()[:, :, None, None])
            log_dets.append(log_det - 0.5 * x.shape[2] * x.shape[3] * variance.log().sum(1))
        coarsest = (pooled[-1].shape[2], pooled[-1].shape[3])
        fused, log_det = self.fusion(encoded, [resampled(conditions[-1], coarsest, "average")])
        return fused, sum(log_dets, log_det), commitment

    def latents(self, features: Features[Tensor]) -> tuple[list[Tensor], Tensor]:
        """Latents of the levels after the fusion, ``(B, C_l, H_l, W_l)``, and ``log|det J|`` ``(B,)``."""
        latents, log_det, _ = self.encode(features)
        return latents, log_det

    def loss(self, features: Features[Tensor]) -> Tensor:
        """Mean over the batch of ``sum_l ||z_l||^2 / 2 - log|det J|``, and the pull of all vectors to their codes."""
        latents, log_det, commitment = self.encode(features)
        energy = 0.5 * sum(z.square().flatten(1).sum(1) for z in latents)
        return (energy - log_det).mean() + commitment

    def parameter_groups(self) -> dict[str, Sequence[nn.Parameter]]:
        """Return the parameters of the flows, of their fusion, and of what predicts conditions and the mixture."""
        parts = (self.concept, self.hidden, self.of_top, self.joins, self.mixture)
        return {**super().parameter_groups(), "conditions": [p for part in parts for p in part.parameters()]}


class _BatchNorm(nn.BatchNorm1d):
    """Batch normalization of vectors; a batch of one, which has no variance, takes the running statistics."""

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C)`` to the same shape."""
        if not self.training or len(x) > 1:
            return super().forward(x)
        return functional.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)


def _concept(channels: int, dim: int) -> nn.Sequential:
    layers = [layer for width in (channels, dim) for layer in (nn.Linear(width, dim), _BatchNorm(dim), nn.ReLU())]
    return nn.Sequential(*layers)


def _layer(channels_in: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels_in, channels_out, 1), nn.BatchNorm2d(channels_out), nn.ReLU())


def _two_layers(channels_in: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(*_layer(channels_in, channels_out), *_layer(channels_out, channels_out))


def _mixture(dim: int, channels: int) -> nn.Linear:
    """Predict mean and scale of each channel, 0 and 1 at first; scales drawn around 0 would blow up the latents."""
    linear = nn.Linear(dim, 2 * channels)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias[:channels])
    nn.init.ones_(linear.bias[channels:])
    return linear


METHOD = VQFlow

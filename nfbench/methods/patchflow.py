"""PatchFlow: one flow step on an adapted stack of all levels (arXiv 2602.05238).

Written from the description of BOX-LEO/PatchFlow at 7bb5aa4, whose code states no licence, and of anomalib's port.
Levels at all scales of the image are pooled over 3 x 3 positions, resized to the finest one and mapped to ``channels``
channels by a 1 x 1 convolution; the flow is on the positions of the centre. Score of a position:
``1 - exp(-mean_c(z^2) / 2)``, up-sampled; the border scores 0. Score of an image: the maximum.

The trained adaptor is not in the log-determinant, as published. So the likelihood has no bound: a smaller adaptor, made
up for by the flow, lowers the loss of any data, and likelihoods of different epochs do not compare. ``adaptor: pca``
projects to the leading principal components of the training positions, each with variance 1, and has no such problem.

Deliberate deviations:

- The repository crops the image to its centre, 672 of 768 pixels. Here the levels are cropped, so that a cache holds
  whole images; the positions are the same, but features of the centre see the border.
- The repository keeps the epoch that finds synthetic anomalies best; here the last epoch counts, or the selection.
- The adaptor is applied to each level before this is resized, which is the same up to rounding and takes less memory.

The paper's features are those of EfficientNet-B5, the outputs of stages 2, 3 and 5, of the image at 768, 384 and 192
pixels (``workflow/experiments/patchflow_mvtec.yaml``).
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError
from torch import Tensor, nn
from torch.nn import functional

from nfbench.blocks.all_in_one import AllInOneStep, ClampRule
from nfbench.blocks.features import Features
from nfbench.blocks.freia import SequenceINN
from nfbench.blocks.maps import ImageRule, resize_maps
from nfbench.blocks.method import HALF_LOG_TWO_PI, LevelShape, Method, Passes, Scores, Tiny
from nfbench.blocks.resampling import resampled
from nfbench.blocks.settings import TrainedSettings
from nfbench.config import Choices, Range
from nfbench.core.errors import NfbenchError, required

__all__ = ["METHOD", "PatchFlow", "PatchFlowSettings"]

MEMORY = {"parameters": 0, "network": 1e6}
"""See ``nfbench.plan.memory``; one or two steps on 128 channels."""

_SLOPE = 0.2


def _odd(side: int) -> int:
    if side % 2 == 0:
        raise PydanticCustomError(
            "even", "a window has a middle; use an odd number, such as {wanted}", {"wanted": side + 1}
        )
    return side


class PatchFlowSettings(TrainedSettings):
    """Defaults of the repository's ``main.py``."""

    epochs: int = Field(10, ge=0, description="passes over the training images, fixed beforehand")
    batch_size: int = Field(16, ge=1, description="images per step")
    lr: float = Field(1e-3, gt=0, description="learning rate of Adam")
    weight_decay: float = Field(1e-4, ge=0, description="L2 penalty of Adam, also on the adaptor")
    adaptor: Literal["trained", "pca"] = Field(
        "trained",
        description="map of all levels to the flow's channels: a trained convolution, which the likelihood leaves out, "
        "or principal components of the training positions",
    )
    channels: int = Field(128, ge=2, description="channels of the flow")
    flow_steps: int = Field(1, ge=1, description="steps of the flow")
    hidden_channels: int = Field(128, ge=1, description="channels between the two convolutions of a subnet")
    pool: Annotated[int, AfterValidator(_odd)] = Field(
        3, ge=1, description="side of the window that levels are averaged over, an odd number"
    )
    crop: float = Field(
        0.875, gt=0, le=1, description="share of the side, at the centre, that is learned and scored; the rest scores 0"
    )
    clamp: float = Field(2.0, gt=0, description="largest absolute log-scale of a coupling")
    clamp_rule: ClampRule = Field("outer", description="'outer' as FrEIA until 2023-08, 'inner' as FrEIA since then")


class PatchFlow(Method):
    """An adaptor of all levels and a flow of few steps."""

    title = "PatchFlow"
    image_rule: ClassVar[ImageRule] = "max"
    settings_type = PatchFlowSettings
    settings: PatchFlowSettings
    tiny = Tiny({"channels": 8, "hidden_channels": 8})
    search_space = {
        "lr": Range(low=1e-5, high=1e-2, log=True),
        "batch_size": Range(low=4, high=32),
        "flow_steps": Choices(choices=(1, 2, 4)),
        "channels": Choices(choices=(64, 128, 256)),
    }

    def build(self, generator: torch.Generator) -> None:
        """Build the adaptor and the flow.

        Raises:
            NfbenchError: more principal components than the levels have channels.
        """
        settings = self.settings
        self.widths = [shape.channels for shape in self.shapes]
        total, (_, height, width) = sum(self.widths), self.shapes[0]
        if settings.adaptor == "pca" and settings.channels > total:
            raise NfbenchError(
                f"method 'patchflow' cannot take {settings.channels} principal components of levels with {total} "
                "channels; lower 'channels'"
            )
        self.margins = [round(side * (1 - settings.crop) / 2) for side in (height, width)]
        sides = [side - 2 * margin for side, margin in zip((height, width), self.margins, strict=True)]
        self.inner = LevelShape(settings.channels, *sides)
        self.adaptor = nn.Conv2d(total, settings.channels, 1)
        self.adaptor.requires_grad_(settings.adaptor == "trained")
        self.flow = SequenceINN(*self.inner)
        for _ in range(settings.flow_steps):
            self.flow.append(
                AllInOneStep,
                subnet=partial(_subnet, hidden=settings.hidden_channels),
                generator=generator,
                clamp=settings.clamp,
                clamp_rule=settings.clamp_rule,
            )

    @property
    def dimensions(self) -> int:
        """Return the number of values of one image's adapted features."""
        return math.prod(self.inner)

    @property
    def loss_scale(self) -> int:
        """The number of dimensions: the loss is printed in nats per dimension."""
        return self.dimensions

    def adapt(self, features: Features[Tensor]) -> Tensor:
        """Pool, map, resize and add the levels, and crop their centre, ``(B, channels, H, W)``."""
        weights = self.adaptor.weight.split(self.widths, dim=1)
        size = (self.shapes[0].height, self.shapes[0].width)
        parts = [
            resampled(functional.conv2d(self._pooled(x), weight), size, "bilinear_aligned")
            for x, weight in zip(features.levels, weights, strict=True)
        ]
        return self._centre(sum(parts[1:], parts[0])) + self._bias[:, None, None]

    @property
    def _bias(self) -> Tensor:
        return required(self.adaptor.bias, "the adaptor's bias")

    def _pooled(self, x: Tensor) -> Tensor:
        """Averages with zeros beyond the border, which count."""
        return functional.avg_pool2d(x, self.settings.pool, stride=1, padding=self.settings.pool // 2)

    def _centre(self, x: Tensor) -> Tensor:
        (top, left), (_, height, width) = self.margins, self.inner
        return x[..., top : top + height, left : left + width]

    @torch.no_grad()
    def prepare(self, passes: Passes) -> None:
        """Fit the principal components of the training positions, if they are the adaptor, in float64."""
        if self.settings.adaptor == "trained":
            return
        count, width = 0, sum(self.widths)
        total = self.adaptor.weight.new_zeros(width, dtype=torch.float64)
        squares = total.new_zeros(width, width)
        for features in passes():
            for number in range(len(features)):
                x = self._stacked([level[number : number + 1] for level in features.levels])
                count, total, squares = count + len(x), total + x.sum(0), squares + x.T @ x
        mean = total / count
        variances, vectors = torch.linalg.eigh(squares / count - torch.outer(mean, mean))  # ascending
        variances, vectors = variances.flip(0)[: self.settings.channels], vectors.flip(1)[:, : self.settings.channels]
        smallest = torch.finfo(torch.float32).eps * variances[0]
        weight = vectors.T / variances.clamp_min(smallest).sqrt()[:, None]
        self.adaptor.weight.copy_(weight[..., None, None])
        self._bias.copy_(-weight @ mean)

    def _stacked(self, levels: Sequence[Tensor]) -> Tensor:
        """All channels of the positions of the centre, ``(N, C)`` float64."""
        size = (self.shapes[0].height, self.shapes[0].width)
        resized = [resampled(self._pooled(x).double(), size, "bilinear_aligned") for x in levels]
        return self._centre(torch.cat(resized, dim=1)).permute(0, 2, 3, 1).flatten(0, 2)

    def latents(self, features: Features[Tensor]) -> tuple[Tensor, Tensor]:
        """Latents of the centre ``(B, channels, H, W)``, and ``log|det J|`` of the flow ``(B,)``."""
        z, log_det = self.flow(self.adapt(features))
        return z, log_det

    def loss(self, features: Features[Tensor]) -> Tensor:
        """Mean over the batch of ``||z||^2 / 2 - log|det J|``, not divided by the dimension."""
        return self._negative_log_likelihood(features).mean()

    def log_likelihood(self, features: Features[Tensor]) -> Tensor:
        """Return the log-density of the adapted features in nats per dimension, ``(B,)``."""
        return -self._negative_log_likelihood(features) / self.dimensions - HALF_LOG_TWO_PI

    def _negative_log_likelihood(self, features: Features[Tensor]) -> Tensor:
        z, log_det = self.latents(features)
        return 0.5 * z.square().flatten(1).sum(1) - log_det

    def score(self, features: Features[Tensor]) -> Scores:
        """The map with a border of zeros, its maximum, and the latents of the centre."""
        z, _ = self.latents(features)
        sides = zip(self.margins, self.shapes[0][1:], self.map_size, strict=True)
        top, left = (margin * pixels // positions for margin, positions, pixels in sides)
        size = (self.map_size[0] - 2 * top, self.map_size[1] - 2 * left)
        centre = resize_maps([1 - torch.exp(-0.5 * z.square().mean(1))], size)[0]
        maps = functional.pad(centre, (left, left, top, top))
        return Scores(maps, maps.flatten(1).amax(1), [z])

    def latent_shapes(self) -> list[tuple[int, ...]]:
        """Return the shape of the cropped map."""
        return [tuple(self.inner)]

    def parameter_groups(self) -> dict[str, Sequence[nn.Parameter]]:
        """Return the parameters of the adaptor and of the flow."""
        return {"adaptor": list(self.adaptor.parameters()), "flow": list(self.flow.parameters())}


def _subnet(channels_in: int, channels_out: int, hidden: int) -> nn.Module:
    """Two convolutions with nothing between them, and a LeakyReLU at the output, as in the repository."""
    return nn.Sequential(
        nn.Conv2d(channels_in, hidden, 3, padding=1),
        nn.Conv2d(hidden, channels_out, 3, padding=1),
        nn.BatchNorm2d(channels_out),
        nn.LeakyReLU(_SLOPE),
    )


METHOD = PatchFlow

"""FCDD: a fully convolutional network that outputs the map (Liznerski et al., ICLR 2021, arXiv 2007.01760).

Compared with the description of liznerski/fcdd at 4fa8502, the variant for MVTec AD. A 1 x 1 convolution gives a value
``a`` at each position of the last level, and ``h = sqrt(a^2 + 1) - 1``. The loss of an image is:

- normal: the mean of ``h``;
- with confetti, which is added to half of the normal images: ``-log(1 - exp(-mean h))``;
- a given anomaly with mask ``m``, with ``h`` at the image's size: ``mean(h * (1 - m)) - log(1 - exp(-mean(h * m)))``.

Score: ``h``, up-sampled with a Gaussian of the size of the receptive field; the image score is the mean of ``h``.

Deliberate deviations: images are not cropped at random. They are scaled to the range of the training images after
    contrast normalization; the authors use constants by category. The learning rate decreases in nine steps instead of
    by 0.985 after each epoch, and a step processes all its images at once instead of eight parts of 16. The Gaussian
    keeps the value of a constant map. Confetti has one to four squares.
"""

from collections.abc import Iterator, Sequence

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from nfbench.blocks.augmentation import jitter_colors
from nfbench.blocks.confetti import add_confetti
from nfbench.blocks.deviation import anomalous_images
from nfbench.blocks.features import Features
from nfbench.blocks.method import Batch, Method, Passes, Scores, Tiny
from nfbench.blocks.pixels import Pixels
from nfbench.blocks.settings import Milestones, Schedule
from nfbench.blocks.sgd import SgdSettings, sgd
from nfbench.config import Range

__all__ = ["FCDD", "METHOD", "FCDDSettings", "anomaly_loss", "gaussian_upsample", "local_contrast", "pseudo_huber"]

MEMORY = {"parameters": 0, "network": 4.6e6, "pixels": 6000}
"""See ``nfbench.plan.memory``."""

_SMALLEST = 1e-31
_RANGE = 1e-6


class FCDDSettings(SgdSettings):
    """Defaults of the repository."""

    epochs: int = Field(200, ge=0, description="passes over the training images")
    batch_size: int = Field(128, ge=1, description="images per step")
    lr: float = Field(1e-3, gt=0, description="learning rate")
    weight_decay: float = Field(1e-4, ge=0, description="L2 penalty")
    schedule: Schedule = "step"
    milestones: Milestones = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    gamma: float = Field(0.739, gt=0, lt=1, description="factor of the schedule 'step'")
    frozen_layers: int = Field(
        4, ge=0, description="number of leading convolutions kept frozen, with their normalization"
    )
    confetti_share: float = Field(0.5, ge=0, le=1, description="share of normal images that get confetti")
    jitter: float = Field(0.04, ge=0, le=0.5, description="strength of random changes of colour")
    noise: float = Field(
        0.1, ge=0, description="noise added to half of the images, as a share of the standard deviation of their pixels"
    )
    receptive_field: int = Field(62, ge=1, description="side of the up-sampling Gaussian in pixels")
    sigma: float = Field(12.0, gt=0, description="sigma of the up-sampling Gaussian in pixels")


class FCDD(Method):
    """The first layers of a backbone, with one output value per position.

    Attributes:
        low, high: smallest and largest value of each channel of the training images after contrast normalization, ``(3,
            1, 1)``.
    """

    title = "FCDD"
    settings_type = FCDDSettings
    settings: FCDDSettings
    low: Tensor
    high: Tensor
    tiny = Tiny(
        {"frozen_layers": 1, "receptive_field": 8, "sigma": 2.0},
        shapes=(),
        side=32,
        network="resnet18.tv_in1k",
        levels=(1,),
    )
    takes_levels = False
    takes_image = True
    takes_network = "yes"
    search_space = {
        "lr": Range(low=1e-4, high=1e-1, log=True),
        "weight_decay": Range(low=1e-6, high=1e-2, log=True),
        "confetti_share": Range(low=0.1, high=0.9),
    }

    @property
    def takes_anomalies(self) -> bool:
        """Return True: it learns from anomalies and their masks."""
        return True

    def build(self, generator: torch.Generator) -> None:
        """Build the network and the head."""
        self.network, self.pixels = self.make_network(), Pixels(self.required_network.name)
        _freeze(self.network, self.settings.frozen_layers)
        self.head = nn.Conv2d(self.required_network.last_channels, 1, 1)
        self.register_buffer("low", torch.zeros(3, 1, 1))
        self.register_buffer("high", torch.ones(3, 1, 1))

    def prepare(self, passes: Passes) -> None:
        """Store the value range of the training images."""
        parts = [local_contrast(self.pixels.of(features.required_image)) for features in passes()]
        self.low.copy_(torch.stack([part.amin((0, 2, 3)) for part in parts]).amin(0).view(3, 1, 1))
        self.high.copy_(torch.stack([part.amax((0, 2, 3)) for part in parts]).amax(0).view(3, 1, 1))

    def losses(self, batch: Batch, generator: torch.Generator) -> Iterator[Tensor]:
        """Yield the mean of the images' losses, each by the rule for its kind."""
        pixels = self.pixels.of(batch.features.required_image)
        seen = anomalous_images(pixels, batch.masks) > 0
        pixels, changed = self.with_confetti(pixels, seen, generator)
        heat = self.heat(self.augmented(pixels, generator))
        mean = heat.mean((1, 2))
        loss = torch.where(changed, anomaly_loss(torch.where(changed, mean, 1)), mean)
        if batch.masks is not None:
            marked, large = batch.masks > 0, self.upsample(heat)
            inside = torch.where(seen, (large * marked).mean((1, 2)), 1)
            loss = torch.where(seen, (large * ~marked).mean((1, 2)) + anomaly_loss(inside), loss)
        yield loss.mean()

    def with_confetti(self, pixels: Tensor, seen: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Add confetti to some images that are not ``seen`` anomalies; also return which ones, ``(B,)``."""
        drawn = torch.rand(pixels.shape[0], generator=generator, device=generator.device)
        changed = (drawn < self.settings.confetti_share) & ~seen
        return torch.where(changed.view(-1, 1, 1, 1), add_confetti(pixels, generator), pixels), changed

    def augmented(self, pixels: Tensor, generator: torch.Generator) -> Tensor:
        """Jitter the colours of the images, and add noise to half of them."""
        pixels = jitter_colors(pixels, self.settings.jitter, generator)
        noise = torch.randn(pixels.shape, generator=generator, device=generator.device)
        noisy = torch.rand(pixels.shape[0], 1, 1, 1, generator=generator, device=generator.device) < 0.5
        return pixels + self.settings.noise * noisy * pixels.std((1, 2, 3), keepdim=True) * noise

    def heat(self, pixels: Tensor) -> Tensor:
        """Return ``h`` of images in [0, 1], ``(B, 3, H, W)`` to ``(B, h, w)``."""
        inputs = (local_contrast(pixels) - self.low) / (self.high - self.low).clamp(min=_RANGE)
        return pseudo_huber(self.head(self.network(inputs)[-1])[:, 0])

    def upsample(self, heat: Tensor) -> Tensor:
        """Return ``h`` at the size of the image, ``(B, H, W)``."""
        return gaussian_upsample(heat, self.map_size, self.settings.receptive_field, self.settings.sigma)

    def score(self, features: Features[Tensor]) -> Scores:
        """Return ``h`` at the size of the image, and its mean."""
        heat = self.heat(self.pixels.of(features.required_image))
        return Scores(self.upsample(heat), heat.mean((1, 2)))

    def parameter_groups(self) -> dict[str, Sequence[nn.Parameter]]:
        """Return the trained parameters of the network, and those of the head."""
        trained = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        return {"network": trained, "head": list(self.head.parameters())}

    def own_optimizer(self) -> torch.optim.Optimizer:
        """Nesterov's."""
        return sgd(self.parameters(), self.settings, nesterov=True)


def pseudo_huber(a: Tensor) -> Tensor:
    """``sqrt(a^2 + 1) - 1``, accurate for small ``a``."""
    squared = a.square()
    return squared / ((squared + 1).sqrt() + 1)


def anomaly_loss(mean: Tensor) -> Tensor:
    """``-log(1 - exp(-h))``."""
    return -(-torch.expm1(-mean) + _SMALLEST).log()


def local_contrast(images: Tensor) -> Tensor:
    """Scale images ``(B, 3, H, W)`` to mean 0 and mean absolute deviation 1."""
    centred = images - images.mean((1, 2, 3), keepdim=True)
    return centred / centred.abs().mean((1, 2, 3), keepdim=True).clamp(min=_RANGE)


def gaussian_upsample(heat: Tensor, size: tuple[int, int], field: int, sigma: float) -> Tensor:
    """Replace each position by a Gaussian at the centre of its receptive field: ``(B, h, w)`` to ``(B, H, W)``.

    Args:
        heat: values of positions.
        size: size of the image.
        field: side of the Gaussian in pixels, at least the distance between two positions.
        sigma: standard deviation of the Gaussian in pixels.
    """
    stride = round(size[0] / heat.shape[1])
    margin = max(0, round((field - stride) / 2))
    offsets = torch.arange(stride + 2 * margin, device=heat.device, dtype=heat.dtype)
    line = torch.exp(-0.5 * ((offsets - (stride - 1) / 2 - margin) / sigma).square())
    line = stride * line / line.sum()
    large = functional.conv_transpose2d(heat[:, None], line.outer(line)[None, None], stride=stride, padding=margin)
    for axis, side in zip((2, 3), size, strict=True):
        last = large.narrow(axis, large.shape[axis] - 1, 1)
        large = torch.cat([large, *[last] * (side - large.shape[axis])], dim=axis).narrow(axis, 0, side)
    return large[:, 0]


def _freeze(network: nn.Module, layers: int) -> None:
    """Freeze the first convolutions and the layers that follow each of them."""
    convolutions = 0
    for module in network.modules():
        convolutions += isinstance(module, nn.Conv2d)
        if convolutions > layers:
            return
        for parameter in module.parameters(recurse=False):
            parameter.requires_grad_(False)


METHOD = FCDD

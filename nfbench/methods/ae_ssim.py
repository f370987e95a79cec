"""AE-SSIM: a convolutional autoencoder trained with structural similarity (Bergmann et al., VISAPP 2019).

arXiv 1807.02011. There is no official code; the network follows the description of
plutoyuxie/AutoEncoder-SSIM-for-unsupervised-anomaly-detection- at 1bd6651.
Score: ``1 - SSIM(x, x')`` of each pixel, with ``x'`` the reconstruction; the image score is the maximum of the map,
    which the paper does not specify.

Deliberate deviations: an epoch is a pass over the training images, each batch of ``batch_size`` images gives
    ``patch_steps`` steps on random patches; the paper cuts 10,000 patches beforehand, and rotates and mirrors some
    categories. All images are resized to a square; the paper's other sizes for carpet (512 pixels) and objects (a crop
    of 256 pixels) can be set with ``input_size`` of the backbone ``image``. SSIM uses a Gaussian window of 11 pixels
    (sigma 1.5) and mirrored borders, so maps have the size of the image.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import product
from typing import ClassVar, Literal

import torch
from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError
from torch import Tensor, nn
from torch.nn import functional

from nfbench.blocks.exporting import parts_of
from nfbench.blocks.features import Features
from nfbench.blocks.maps import ImageRule
from nfbench.blocks.method import Batch, Method, Scores, Tiny
from nfbench.blocks.pixels import Pixels
from nfbench.blocks.settings import TrainedSettings
from nfbench.blocks.ssim import ssim
from nfbench.config import Choices, Range
from nfbench.core.errors import NfbenchError

__all__ = ["METHOD", "AeSsim", "AeSsimSettings", "Autoencoder"]

MEMORY = {"parameters": 0, "network": 3e6, "pixels": 900}
"""See ``nfbench.plan.memory``."""

_SLOPE = 0.2


class AeSsimSettings(TrainedSettings):
    """The paper's settings for textures; objects have ``patch_size`` 256 and ``latent_channels`` 500."""

    epochs: int = Field(200, ge=0, description="passes over the training images")
    batch_size: int = Field(32, ge=1, description="images per step; their patches form one batch")
    lr: float = Field(2e-4, gt=0, description="learning rate of Adam")
    weight_decay: float = Field(1e-5, ge=0, description="L2 penalty of Adam")
    val_fraction: float = Field(0.0, ge=0, lt=1, description="share of the normal training images held out")
    patch_size: Literal[64, 128, 256, 512] = Field(128, description="side of a patch in pixels")
    patches: int = Field(4, ge=1, description="patches of each image per step")
    patch_steps: int = Field(3, ge=1, description="steps per batch of images, each on different patches")
    patch_stride: int = Field(32, ge=1, description="stride of the overlapping patches of a scored image, in pixels")
    latent_channels: int = Field(100, ge=1, description="length of the code of a patch")
    width: int = Field(32, ge=1, description="channels of the outer layers; the inner ones have up to 4 times as many")

    @model_validator(mode="after")
    def _patches_cover_the_image(self) -> "AeSsimSettings":
        if self.patch_stride > self.patch_size:
            given = {"stride": self.patch_stride, "size": self.patch_size}
            text = "'patch_stride' {stride} leaves gaps between patches of {size} pixels; lower it"
            raise PydanticCustomError("gaps", text, given)
        return self


class Autoencoder(nn.Module):
    """Autoencoder of patches ``(B, 3, S, S)`` in [0, 1] with a code of ``latent_channels`` values.

    Kernels of size 4 halve the side, those of size 3 keep it, and the innermost covers the last 8 x 8 positions.
    """

    def __init__(self, patch_size: int, latent_channels: int, width: int) -> None:
        super().__init__()
        outer = [(width, 4)] * int(math.log2(patch_size // 32))
        inner = [(width, 3), (2 * width, 4), (2 * width, 3), (4 * width, 4), (2 * width, 3), (width, 3)]
        encoder: list[nn.Module] = []
        decoder: list[nn.Module] = []
        inputs = 3
        for outputs, kernel in outer + inner:
            stride = 2 if kernel == 4 else 1
            encoder += [nn.Conv2d(inputs, outputs, kernel, stride, 1), nn.LeakyReLU(_SLOPE)]
            decoder = [nn.ConvTranspose2d(outputs, inputs, kernel, stride, 1), nn.LeakyReLU(_SLOPE), *decoder]
            inputs = outputs
        self.encoder = nn.Sequential(*encoder, nn.Conv2d(width, latent_channels, 8))
        innermost = [nn.ConvTranspose2d(latent_channels, width, 8), nn.LeakyReLU(_SLOPE)]
        self.decoder = nn.Sequential(*innermost, *decoder[:-1], nn.Sigmoid())

    def forward(self, patches: Tensor) -> Tensor:
        """The reconstruction."""
        return self.decoder(self.encoder(patches))


class AeSsim(Method):
    """An autoencoder of patches that scores an image by its dissimilarity from the reconstruction."""

    title = "AE-SSIM"
    image_rule: ClassVar[ImageRule] = "max"
    settings_type = AeSsimSettings
    settings: AeSsimSettings
    tiny = Tiny({"patch_size": 64, "latent_channels": 16, "width": 8, "patches": 1}, shapes=(), side=64)
    takes_levels = False
    takes_image = True
    search_space = {
        "lr": Range(low=1e-5, high=1e-2, log=True),
        "latent_channels": Choices(choices=(50, 100, 250, 500)),
        "width": Choices(choices=(16, 32, 64)),
    }

    def build(self, generator: torch.Generator) -> None:
        """Build the autoencoder."""
        settings, side = self.settings, min(self.map_size)
        if side < settings.patch_size:
            raise NfbenchError(
                f"'patch_size' of method 'ae_ssim' is {settings.patch_size}, but images have {side} pixels; lower it, "
                "or raise 'input_size' of the backbone"
            )
        self.autoencoder = Autoencoder(settings.patch_size, settings.latent_channels, settings.width)
        self.pixels = Pixels("image")

    def losses(self, batch: Batch, generator: torch.Generator) -> Iterator[Tensor]:
        """Yield ``1 - SSIM`` of random patches and their reconstructions, ``patch_steps`` times."""
        images = self.pixels.of(batch.features.required_image)
        for _ in range(self.settings.patch_steps):
            patches = self._draw(images, generator)
            yield 1 - ssim(patches, self.autoencoder(patches)).mean()

    def _draw(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return ``patches`` random patches of each image; all images in order, then again for the next patch."""
        side = self.settings.patch_size
        windows = images.unfold(2, side, 1).unfold(3, side, 1)
        height, width = windows.shape[2:4]
        count = len(images) * self.settings.patches
        corners = torch.randint(height * width, (count,), generator=generator, device=generator.device)
        numbers = torch.arange(count, device=images.device) % len(images)
        return windows[numbers, :, corners // width, corners % width]

    def score(self, features: Features[Tensor]) -> Scores:
        """Return ``1 - SSIM`` of image and reconstruction, and its maximum."""
        images = self.pixels.of(features.required_image)
        pairs = zip(parts_of(images, 1), parts_of(self.reconstruct(images), 1), strict=True)
        maps = torch.cat([1 - ssim(image.double(), other.double()) for image, other in pairs])
        return Scores(maps, maps.flatten(1).amax(1))

    def reconstruct(self, images: Tensor) -> Tensor:
        """Return the mean reconstruction from overlapping patches, ``(B, 3, H, W)`` in [0, 1]."""
        side, stride = self.settings.patch_size, self.settings.patch_stride
        total, count = torch.zeros_like(images), torch.zeros_like(images[:1, :1])
        tops, lefts = ([*range(0, size - side, stride), size - side] for size in images.shape[2:])
        height, width = images.shape[2:]
        for top, left in product(tops, lefts):  # sums of padded patches; a graph would scatter single pixels
            patch = self.autoencoder(images[..., top : top + side, left : left + side])
            margins = (left, width - left - side, top, height - top - side)
            total = total + functional.pad(patch, margins)
            count = count + functional.pad(torch.ones_like(patch[:1, :1]), margins)
        return total / count

    def parameter_groups(self) -> dict[str, Sequence[nn.Parameter]]:
        """Return all parameters, under the autoencoder."""
        return {"autoencoder": list(self.autoencoder.parameters())}


METHOD = AeSsim

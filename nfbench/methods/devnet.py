"""DevNet: learns deviation scores of images from a few anomalies (Pang et al., arXiv 2108.00462).

Compared with the description of the authors' code in EIPsilly/deviation-network-image at e970a7d. A 1 x 1 convolution
scores the positions of the last level; the score of an image is the mean of the largest tenth of their absolute values,
averaged over the image and the image at half its size. The loss is that of ``nfbench.blocks.deviation``.
Score: the image score; there are no maps.

Deliberate deviations: in the authors' code, half of each batch are anomalies, drawn from an endless permutation, and an
    epoch has 20 batches. Here, an epoch is a pass over the normal images and ``repeats`` copies of each anomaly. If
    ``repeats`` is about the number of normal images divided by the number of anomalies, half of an epoch is anomalous.
    Rotations use nearest-pixel sampling.
"""

from collections.abc import Iterator, Sequence

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from nfbench.blocks.augmentation import rotate
from nfbench.blocks.deviation import anomalous_images, deviation_loss, top_mean
from nfbench.blocks.features import Features
from nfbench.blocks.method import Batch, Method, Scores, Tiny
from nfbench.blocks.pixels import Pixels
from nfbench.blocks.settings import Milestones, Schedule, TrainedSettings
from nfbench.config import Range

__all__ = ["METHOD", "DevNet", "DevNetSettings"]

MEMORY = {"parameters": 0, "network": 11.2e6, "pixels": 2400}
"""See ``nfbench.plan.memory``."""


class DevNetSettings(TrainedSettings):
    """Defaults of the authors' code."""

    epochs: int = Field(50, ge=0, description="passes over the training images")
    batch_size: int = Field(48, ge=1, description="images per step")
    lr: float = Field(2e-4, gt=0, description="learning rate of Adam")
    weight_decay: float = Field(1e-5, ge=0, description="L2 penalty of Adam")
    schedule: Schedule = "step"
    milestones: Milestones = (0.2, 0.4, 0.6, 0.8)
    gradient_clip: float | None = Field(1.0, gt=0, description="maximum gradient norm; null turns clipping off")
    rotation: float = Field(
        180.0,
        ge=0,
        le=180,
        description="rotate training images, including anomalies, by a random angle of up to this many degrees",
    )
    scales: int = Field(2, ge=1, le=3, description="number of image sizes; each is half of the previous one")
    top_share: float = Field(0.1, gt=0, le=1, description="share of positions averaged into the image score")
    confidence_margin: float = Field(5.0, gt=0, description="deviation above which an anomaly adds no loss")
    references: int = Field(5000, ge=2, description="number of standard normal draws that scores are compared with")


class DevNet(Method):
    """A backbone with one score for each position of its last level."""

    title = "DevNet"
    localizes = False
    settings_type = DevNetSettings
    settings: DevNetSettings
    tiny = Tiny(shapes=(), side=32, network="resnet18.tv_in1k", levels=(1,))
    takes_levels = False
    takes_image = True
    takes_network = "yes"
    search_space = {
        "lr": Range(low=1e-5, high=1e-2, log=True),
        "top_share": Range(low=0.01, high=0.5, log=True),
        "confidence_margin": Range(low=1.0, high=10.0),
    }

    @property
    def takes_anomalies(self) -> bool:
        """Always."""
        return True

    @property
    def needs_anomalies(self) -> bool:
        """Return True: without anomalies, all scores could become equal."""
        return True

    def build(self, generator: torch.Generator) -> None:
        """Build the network and the head."""
        self.network, self.pixels = self.make_network(), Pixels(self.required_network.name)
        self.head = nn.Conv2d(self.required_network.last_channels, 1, 1)

    def losses(self, batch: Batch, generator: torch.Generator) -> Iterator[Tensor]:
        """Return the deviation loss of the images' scores."""
        images = self.turned(batch.features.required_image, generator)
        settings, anomalous = self.settings, anomalous_images(images, batch.masks)
        scores, margin = self.image_scores(images), settings.confidence_margin
        yield deviation_loss(scores, anomalous, margin, settings.references, generator)

    def turned(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Rotate normalized images by random angles; corners become black."""
        if not self.settings.rotation:
            return images
        return self.pixels.normalized(rotate(self.pixels.of(images), self.settings.rotation, generator))

    def scaled(self, images: Tensor) -> Iterator[Tensor]:
        """Return the images at each size."""
        for scale in range(self.settings.scales):
            size = [side // 2**scale for side in images.shape[2:]]
            yield functional.interpolate(images, size, mode="nearest") if scale else images

    def image_scores(self, images: Tensor) -> Tensor:
        """Score normalized images, ``(B, 3, H, W)`` to ``(B,)``."""
        found = [top_mean(self.head(self.network(x)[-1]), self.settings.top_share) for x in self.scaled(images)]
        return torch.stack(found).mean(0)

    def score(self, features: Features[Tensor]) -> Scores:
        """Return the scores of the images."""
        return Scores(None, self.image_scores(features.required_image))

    def parameter_groups(self) -> dict[str, Sequence[nn.Parameter]]:
        """Return the parameters of the network and of the head."""
        return {"network": list(self.network.parameters()), "head": list(self.head.parameters())}


METHOD = DevNet

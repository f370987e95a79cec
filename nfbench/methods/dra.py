"""DRA: four heads that learn disentangled abnormalities (Ding et al., CVPR 2022, arXiv 2203.14506).

The official code is no longer online; compared with the descriptions of micheldom/DRA_updated at 15e1395,
M-3LAB/open-iad and mala-lab/AHL, which is from the same laboratory. Backbone, loss and position scores are those of
DevNet. CutPaste turns half of the normal images of a batch into pseudo-anomalies. The heads score the last level ``x``:

- ``holistic``: the global average, with two layers. Its targets are reversed: it learns to score normal images high;
- ``seen``: positions; learns from normal images and from the given anomalies;
- ``pseudo``: positions; learns from normal images and from pseudo-anomalies;
- ``composite``: positions of ``r - x``, with ``r`` the mean of ``x`` over a few normal images, the references; learns
  from all images.

Score: ``seen + pseudo + composite - holistic``, each averaged over the image and the image at half its size.

Deliberate deviations: those of DevNet; a batch of the paper has 32 normal images and 16 anomalies. The references are
    drawn once, from the seed; the repositories draw new ones for each batch, even for scoring. A pseudo-anomaly is made
    from the image that it replaces. Without anomalies given, in the one-class setting, the head
``seen`` learns from normal images only, and the other three heads detect anomalies.
"""

from collections.abc import Iterator, Sequence
from typing import Generic, NamedTuple, TypeVar

import torch
from pydantic import Field
from torch import Tensor, nn

from nfbench.blocks.cutpaste import cut_paste, draw_patches
from nfbench.blocks.deviation import anomalous_images, deviation_loss, top_mean
from nfbench.blocks.features import Features
from nfbench.blocks.method import Batch, Passes, Scores, Tiny
from nfbench.blocks.pixels import Pixels
from nfbench.blocks.settings import Milestones
from nfbench.methods.devnet import DevNet, DevNetSettings

__all__ = ["DRA", "METHOD", "DRASettings", "Heads"]

MEMORY = {"parameters": 0, "network": 13.7e6, "pixels": 2700}
"""See ``nfbench.plan.memory``."""

_JITTER = 0.1

T = TypeVar("T")


class Heads(NamedTuple, Generic[T]):
    """One value per head."""

    holistic: T
    seen: T
    pseudo: T
    composite: T


class DRASettings(DevNetSettings):
    """Defaults of the repositories."""

    epochs: int = Field(30, ge=0, description="passes over the training images")
    milestones: Milestones = (1 / 3, 2 / 3)
    pseudo_share: float = Field(0.5, ge=0, le=1, description="share of normal images that become pseudo-anomalies")
    reference_images: int = Field(
        5, ge=1, description="number of normal reference images; features are compared with their mean"
    )
    hidden_dim: int = Field(256, ge=1, description="width of the holistic head's hidden layer")


class DRA(DevNet):
    """A backbone with four heads.

    Attributes:
        references: normal training images, ``(R, 3, H, W)`` normalized.
    """

    title = "DRA"
    settings_type = DRASettings
    settings: DRASettings
    references: Tensor
    tiny = Tiny({"hidden_dim": 16}, shapes=(), side=32, network="resnet18.tv_in1k", levels=(1,))

    @property
    def needs_anomalies(self) -> bool:
        """Return False: the method makes pseudo-anomalies."""
        return False

    def build(self, generator: torch.Generator) -> None:
        """Build the network and the heads."""
        self.network, self.pixels = self.make_network(), Pixels(self.required_network.name)
        dim, hidden = self.required_network.last_channels, self.settings.hidden_dim
        self.holistic = nn.Sequential(nn.Linear(dim, hidden), nn.ReLU(), nn.Linear(hidden, 1))
        self.seen, self.pseudo = nn.Conv2d(dim, 1, 1), nn.Conv2d(dim, 1, 1)
        self.composite = nn.Sequential(
            nn.Conv2d(dim, dim, 3, padding=1), nn.BatchNorm2d(dim), nn.ReLU(), nn.Conv2d(dim, 1, 1)
        )
        self.register_buffer("references", torch.zeros(self.settings.reference_images, 3, *self.map_size))

    def prepare(self, passes: Passes) -> None:
        """Draw the references, with repetition if there are too few images."""
        count = self.settings.reference_images
        drawn = next(iter(passes.shuffled(0, count))).required_image
        self.references.copy_(drawn[torch.arange(count, device=drawn.device) % drawn.shape[0]])

    def losses(self, batch: Batch, generator: torch.Generator) -> Iterator[Tensor]:
        """Return the sum of the heads' deviation losses, each over the images of that head."""
        images = batch.features.required_image
        seen = anomalous_images(images, batch.masks)
        images, pseudo = self.with_pseudo_anomalies(images, seen, generator)
        anomalous = seen + pseudo
        targets = Heads(1 - anomalous, seen, pseudo, anomalous)
        weights = Heads(None, 1 - pseudo, 1 - seen, None)
        scores = self.head_scores(self.turned(torch.cat([self.references, images]), generator))
        margin, references = self.settings.confidence_margin, self.settings.references
        found = [
            deviation_loss(score, target, margin, references, generator, weight)
            for score, target, weight in zip(scores, targets, weights, strict=True)
        ]
        yield torch.stack(found).sum()

    def with_pseudo_anomalies(self, images: Tensor, seen: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Replace some images that are not ``seen`` anomalies; also return 1 for the replaced ones, ``(B,)``."""
        pixels = self.pixels.of(images)
        pasted = self.pixels.normalized(cut_paste(pixels, draw_patches(pixels, generator), _JITTER, generator))
        drawn = torch.rand(images.shape[0], generator=generator, device=generator.device)
        pseudo = (drawn < self.settings.pseudo_share) * (1 - seen)
        return torch.where(pseudo.view(-1, 1, 1, 1) > 0, pasted, images), pseudo

    def head_scores(self, images: Tensor) -> Heads[Tensor]:
        """Score normalized images that follow the references, ``(R + B, 3, H, W)`` to ``(B,)`` of each head."""
        count, share, found = self.settings.reference_images, self.settings.top_share, []
        for scaled in self.scaled(images):
            level = self.network(scaled)[-1]
            x, difference = level[count:], level[:count].mean(0) - level[count:]
            positions = [self.seen(x), self.pseudo(x), self.composite(difference)]
            holistic = self.holistic(x.mean((2, 3)))[:, 0].abs()
            found.append([holistic, *(top_mean(scores, share) for scores in positions)])
        return Heads(*(torch.stack(scores).mean(0) for scores in zip(*found, strict=True)))

    def score(self, features: Features[Tensor]) -> Scores:
        """Return ``seen + pseudo + composite - holistic``."""
        heads = self.head_scores(torch.cat([self.references, features.required_image]))
        return Scores(None, heads.seen + heads.pseudo + heads.composite - heads.holistic)

    def parameter_groups(self) -> dict[str, Sequence[nn.Parameter]]:
        """Return the parameters of the network and of each head."""
        names = ("network", *Heads._fields)
        return {name: list(getattr(self, name).parameters()) for name in names}


METHOD = DRA

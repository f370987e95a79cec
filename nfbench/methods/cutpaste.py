"""CutPaste: a classifier of CutPaste images, and a Gaussian of its features (Li et al., CVPR 2021).

arXiv 2104.04015. There is no official code; head and training follow the description of Runinho/pytorch-cutpaste at
10d8bf7. A network learns to classify unchanged images, images with a pasted patch, and images with a pasted scar (the
3-way variant).
Score: Mahalanobis distance of the image's embedding, the global average of the network's last level, from the
    embeddings of the normal training images.

Deliberate deviations: an epoch is a pass over the training images; the paper's 256 epochs have 256 steps each. All
    layers are trained from the first step; the repository freezes the network for the first 20 steps. Sizes of scars
    refer to an image of 256 pixels and scale with it. Colours are jittered in a fixed order, and hues rotate about the
    grey axis. There are no maps; the paper makes them with a second network on patches of 64 pixels.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from nfbench.blocks.augmentation import jitter_colors
from nfbench.blocks.cutpaste import cut_paste, draw_patches, draw_scars
from nfbench.blocks.features import Features
from nfbench.blocks.method import Batch, Batches, Method, Scores, Tiny
from nfbench.blocks.pixels import Pixels
from nfbench.blocks.settings import Schedule
from nfbench.blocks.sgd import SgdSettings, sgd
from nfbench.blocks.whitening import inverse_factor, mahalanobis
from nfbench.config import Range

__all__ = ["METHOD", "CutPaste", "CutPasteSettings", "ledoit_wolf"]

MEMORY = {"parameters": 0, "network": 11.6e6, "pixels": 7500}
"""See ``nfbench.plan.memory``."""

_SMALLEST = 1e-12
"""Variance used if all embeddings are equal."""


class CutPasteSettings(SgdSettings):
    """The paper's settings, with one hidden layer in the head before its last one."""

    epochs: int = Field(256, ge=0, description="passes over the training images")
    batch_size: int = Field(64, ge=1, description="images per step, each in three variants")
    lr: float = Field(0.03, gt=0, description="learning rate")
    weight_decay: float = Field(3e-5, ge=0, description="L2 penalty")
    schedule: Schedule = "cosine"
    hidden_layers: int = Field(1, ge=0, description="number of head layers with the width of the embedding")
    hidden_dim: int = Field(128, ge=1, description="width of the head's last hidden layer")
    jitter: float = Field(
        0.1,
        ge=0,
        le=0.5,
        description="strength of random colour changes, of images and again of the pasted patch",
    )


class CutPaste(Method):
    """A backbone with a three-class head, and mean and covariance of its embeddings.

    Attributes:
        mean: mean of the embeddings of the training images, ``(C,)`` float64.
        whitening: inverse Cholesky factor ``W`` of their covariance, ``(C, C)``; ``||W (x - m)||`` is the distance.
    """

    title = "CutPaste"
    localizes = False
    settings_type = CutPasteSettings
    settings: CutPasteSettings
    mean: Tensor
    whitening: Tensor
    tiny = Tiny({"hidden_dim": 16}, shapes=(), side=32, network="resnet18.tv_in1k", levels=(1,))
    takes_levels = False
    takes_image = True
    takes_network = "yes"
    search_space = {
        "lr": Range(low=1e-3, high=0.1, log=True),
        "weight_decay": Range(low=1e-6, high=1e-3, log=True),
        "hidden_layers": Range(low=0, high=8),
        "jitter": Range(low=0.0, high=0.3),
    }

    def build(self, generator: torch.Generator) -> None:
        """Build the network and the head."""
        self.network, self.pixels = self.make_network(), Pixels(self.required_network.name)
        dim = self.required_network.last_channels
        widths = [dim] * (self.settings.hidden_layers + 1) + [self.settings.hidden_dim]
        hidden = [
            layer
            for inputs, outputs in pairwise(widths)
            for layer in (nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU())
        ]
        self.head = nn.Sequential(*hidden, nn.Linear(widths[-1], 3))
        self.register_buffer("mean", torch.zeros(dim, dtype=torch.float64))
        self.register_buffer("whitening", torch.eye(dim, dtype=torch.float64))

    def losses(self, batch: Batch, generator: torch.Generator) -> Iterator[Tensor]:
        """Return the cross-entropy of the three variants of each image."""
        images = self.variants(batch.features.required_image, generator)
        labels = torch.arange(images.shape[0], device=images.device) // (images.shape[0] // 3)
        yield functional.cross_entropy(self.head(self.embed(images)), labels)

    def variants(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return unchanged images, images with a patch, and images with a scar: ``(B, 3, H, W)`` to ``(3 B, 3, H, W)``.

        Input and output are normalized. Colours are jittered first, equally for all variants of an image.
        """
        jitter = self.settings.jitter
        pixels = jitter_colors(self.pixels.of(images), jitter, generator)
        pasted = [cut_paste(pixels, draw(pixels, generator), jitter, generator) for draw in (draw_patches, draw_scars)]
        return self.pixels.normalized(torch.cat([pixels, *pasted]))

    def embed(self, images: Tensor) -> Tensor:
        """Return the global average of the last level, ``(B, C)``."""
        return self.network(images)[-1].mean((2, 3))

    @torch.no_grad()
    def calibrate(self, passes: Batches) -> None:
        """Fit the Gaussian."""
        embeddings = torch.cat([self.embed(features.required_image) for features in passes()]).double()
        self.mean.copy_(embeddings.mean(0))
        self.whitening.copy_(inverse_factor(torch.linalg.cholesky(ledoit_wolf(embeddings))))

    def score(self, features: Features[Tensor]) -> Scores:
        """Return the Mahalanobis distance as the image score."""
        embeddings = self.embed(features.required_image).double()
        return Scores(None, mahalanobis(embeddings, self.mean, self.whitening))

    def parameter_groups(self) -> dict[str, Sequence[nn.Parameter]]:
        """Return the parameters of the network and of the head."""
        return {"network": list(self.network.parameters()), "head": list(self.head.parameters())}

    def own_optimizer(self) -> torch.optim.Optimizer:
        """Return stochastic gradient descent with momentum."""
        return sgd(self.parameters(), self.settings)


def ledoit_wolf(x: Tensor) -> Tensor:
    """Covariance ``(D, D)`` of ``(N, D)``, shrunk to a multiple of the identity (Ledoit and Wolf, 2004)."""
    x = x - x.mean(0)
    n, dim = x.shape
    covariance = x.mT @ x / n
    variance = covariance.trace() / dim
    distance = covariance.square().sum() / dim - variance.square()
    error = (x.square().sum(1).square().mean() - covariance.square().sum()) / (n * dim)
    share = torch.where(distance > 0, (error / distance).clamp(0, 1), 1.0)
    target = share * variance.clamp(min=_SMALLEST)
    identity = torch.eye(dim, dtype=x.dtype, device=x.device)
    return (1 - share) * covariance + target * identity


METHOD = CutPaste

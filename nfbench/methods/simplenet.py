"""SimpleNet: a discriminator between adapted patches and noisy ones (Liu et al., CVPR 2023, arXiv 2303.15140).

Compared with the description of DonaldRR/SimpleNet at 351a2b8.
Score: ``-D(G(x))`` of a patch; the image score is the maximum over patches, before the map is up-sampled and smoothed.

Deliberate deviations: features cover the whole image. The repository crops the centre, which hides defects at
the border while the image keeps its label. The repository reports the best of 40 epochs on the test set; that is the
selection 'oracle' here; the selection 'last' does not use the test set.
"""

from collections.abc import Iterator, Sequence

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from nfbench.blocks.features import Features
from nfbench.blocks.method import Batch, ParameterGroup, Scores, Tiny
from nfbench.blocks.patches import Embedding, PatchEmbedding, PatchMethod, PatchSettings
from nfbench.blocks.settings import TrainedSettings
from nfbench.config import Choices, Range

__all__ = ["METHOD", "SimpleNet", "SimpleNetSettings"]

_NEGATIVE_SLOPE = 0.2


class SimpleNetSettings(PatchSettings, TrainedSettings):
    """Defaults of the repository (run.sh, simplenet.py), on levels 2 and 3 of the backbone."""

    epochs: int = Field(160, ge=0, description="passes over the training images")
    batch_size: int = Field(8, ge=1, description="images per step")
    lr: float = Field(2e-4, gt=0, description="learning rate of Adam, for the discriminator")
    weight_decay: float = Field(1e-5, ge=0, description="L2 penalty of Adam, for the discriminator")
    adaptor_lr_factor: float = Field(0.5, gt=0, description="learning rate of the adaptor, as a share of 'lr'")
    adaptor_weight_decay: float = Field(1e-2, ge=0, description="weight decay of AdamW, for the adaptor")
    embedding: Embedding = Field(
        "official",
        description="embedding of a patch: averages over its 3 x 3 neighbourhood as published, or per channel",
    )
    embedding_dim: int = Field(
        1536, ge=1, description="values per patch in the embedding 'official', in total and per level"
    )
    hidden_dim: int = Field(1024, ge=1, description="hidden values of the discriminator")
    noise_std: float = Field(
        0.015, gt=0, description="standard deviation of the noise; depends on the scale of the features"
    )
    margin: float = Field(
        0.5, gt=0, description="margin of the discriminator's output above which a patch adds no loss"
    )


class SimpleNet(PatchMethod):
    """A linear adaptor G and a discriminator D of two layers, trained together."""

    title = "SimpleNet"
    settings_type = SimpleNetSettings
    settings: SimpleNetSettings
    tiny = Tiny({"hidden_dim": 64, "embedding_dim": 128, "noise_std": 0.5})
    search_space = {
        "lr": Range(low=1e-5, high=1e-2, log=True),
        "batch_size": Range(low=4, high=32),
        "adaptor_lr_factor": Range(low=0.1, high=1.0),
        "hidden_dim": Choices(choices=(256, 512, 1024)),
        "noise_std": Range(low=5e-3, high=0.1, log=True),
    }

    def build(self, generator: torch.Generator) -> None:
        """Build the adaptor and the discriminator."""
        settings = self.settings
        self.embedding = PatchEmbedding(self.shapes, settings.embedding_dim, settings.embedding_dim, settings.embedding)
        dim = self.embedding.dim
        self.adaptor = nn.Linear(dim, dim)
        self.discriminator = nn.Sequential(
            nn.Linear(dim, settings.hidden_dim),
            nn.BatchNorm1d(settings.hidden_dim),
            nn.LeakyReLU(_NEGATIVE_SLOPE),
            nn.Linear(settings.hidden_dim, 1, bias=False),
        )
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_normal_(module.weight)

    def losses(self, batch: Batch, generator: torch.Generator) -> Iterator[Tensor]:
        """Yield one loss, with noise from ``generator``."""
        features = batch.features
        size = (len(features) * self.embedding.grid[0] * self.embedding.grid[1], self.embedding.dim)
        yield self.loss(features, torch.randn(size, generator=generator, device=generator.device))

    def loss(self, features: Features[Tensor], noise: Tensor | None = None) -> Tensor:
        """Truncated L1: ``mean max(0, m - D(q)) + mean max(0, m + D(q + e))`` over patches ``q = G(x)``.

        Args:
            features: features of normal images.
            noise: standard normal noise ``(B * P, D)``, which is scaled to ``e``; by default a new draw.
        """
        adapted = self._adapt(features)
        noise = torch.randn_like(adapted) if noise is None else noise
        noisy = adapted + self.settings.noise_std * noise
        # one call, so that batch normalization sees both halves
        normal, anomalous = self.discriminator(torch.cat([adapted, noisy])).chunk(2)
        margin = self.settings.margin
        return functional.relu(margin - normal).mean() + functional.relu(margin + anomalous).mean()

    def score(self, features: Features[Tensor]) -> Scores:
        """Return ``-D(G(x))`` of the patches, and the largest of each image."""
        scores = -self.discriminator(self._adapt(features))[:, 0].unflatten(0, (-1, *self.embedding.grid))
        return Scores(self.maps(scores), scores.flatten(1).amax(1))

    def representations(self, features: Features[Tensor]) -> dict[str, list[Tensor]]:
        """Return the patches before and after the adaptor."""
        patches = self.embedding(features.levels)
        steps = {"before the adaptor": patches, "after the adaptor": self.adaptor(patches)}
        return {name: [values.mT.unflatten(2, self.embedding.grid)] for name, values in steps.items()}

    def parameter_groups(self) -> dict[str, Sequence[nn.Parameter]]:
        """Return the parameters of the adaptor and of the discriminator."""
        return {"adaptor": list(self.adaptor.parameters()), "discriminator": list(self.discriminator.parameters())}

    def optimizer_groups(self) -> list[ParameterGroup]:
        """Return Adam for the discriminator, and AdamW at half its learning rate for the adaptor."""
        settings = self.settings
        return [
            ParameterGroup(list(self.discriminator.parameters()), weight_decay=settings.weight_decay),
            ParameterGroup(
                list(self.adaptor.parameters()),
                lr_factor=settings.adaptor_lr_factor,
                weight_decay=settings.adaptor_weight_decay,
                decoupled=True,
            ),
        ]

    def _adapt(self, features: Features[Tensor]) -> Tensor:
        return self.adaptor(self.embedding(features.levels).flatten(0, 1))


METHOD = SimpleNet

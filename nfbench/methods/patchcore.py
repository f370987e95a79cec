"""PatchCore: distance to the nearest patch of a memory bank (Roth et al., CVPR 2022, arXiv 2106.08265).

Compared with the description of amazon-science/patchcore-inspection at fcaa92f, and with anomalib's port by tests.
Score: squared distance of a patch to its nearest neighbours in the bank; the image score is the maximum over patches.

Deliberate deviations: features cover the whole image. The repository crops the centre, which hides defects at
the border while the image keeps its label. The coreset is selected exactly, see ``base_coreset``. The paper's
re-weighting of the image score, equation (7), is not in the repository's code and is off by default.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from nfbench.blocks.coreset import select_coreset
from nfbench.blocks.exporting import parts_of
from nfbench.blocks.features import Features
from nfbench.blocks.method import Passes, Scores, Tiny
from nfbench.blocks.patches import Embedding, PatchEmbedding, PatchMethod, PatchSettings
from nfbench.blocks.settings import FittedSettings
from nfbench.config import Choices, Range
from nfbench.core.errors import NfbenchError

__all__ = ["METHOD", "PatchCore", "PatchCoreSettings", "nearest_neighbors"]

MEMORY = {"parameters": 0, "patches": 6144}
"""See ``nfbench.plan.memory``."""

_START_POINTS = 10
_LARGEST_BLOCK = 2**24


class PatchCoreSettings(PatchSettings, FittedSettings):
    """Defaults of the repository's script for 224 pixels (sample_training.sh), on levels 2 and 3 of the backbone."""

    embedding: Embedding = Field(
        "official",
        description="embedding of a patch: averages over its 3 x 3 neighbourhood as published, or per channel",
    )
    pretrain_dim: int = Field(1024, ge=1, description="values per patch and level in the embedding 'official'")
    target_dim: int = Field(1024, ge=1, description="values per patch in the embedding 'official'")
    coreset_ratio: float = Field(0.1, gt=0, le=1, description="share of the training patches kept in the memory bank")
    projection_dim: int = Field(
        128,
        ge=1,
        description="dimensions of the random projection before coreset selection; no projection for smaller features",
    )
    start: Literal["mean", "point"] = Field(
        "mean", description="selection starts with the mean distance to 10 random points, or from a random point"
    )
    distance: Literal["squared", "euclidean"] = Field("squared", description="distance of patches")
    neighbors: int = Field(1, ge=1, description="number of nearest neighbours over which distances are averaged")
    reweighting: bool = Field(False, description="weight the image score by equation (7) of the paper")
    reweighting_neighbors: int = Field(9, ge=1, description="neighbours b of equation (7)")


class PatchCore(PatchMethod):
    """A memory bank: the coreset of all training patches."""

    title = "PatchCore"
    settings_type = PatchCoreSettings
    settings: PatchCoreSettings
    memory_bank: Tensor
    projection: Tensor | None
    tiny = Tiny({"pretrain_dim": 24, "target_dim": 24})
    search_space = {
        "coreset_ratio": Choices(choices=(0.01, 0.1, 0.25)),
        "neighbors": Range(low=1, high=9),
        "reweighting": Choices(choices=(False, True)),
    }

    def build(self, generator: torch.Generator) -> None:
        """Draw the projection and the first points of the coreset."""
        settings = self.settings
        self.embedding = PatchEmbedding(self.shapes, settings.pretrain_dim, settings.target_dim, settings.embedding)
        self.register_buffer("memory_bank", torch.empty(0, self.embedding.dim))
        projection = None
        if settings.projection_dim < self.embedding.dim:  # initialized like torch's linear layer
            projection = torch.empty(settings.projection_dim, self.embedding.dim, device="cpu")
            projection.uniform_(-1, 1, generator=generator).div_(math.sqrt(self.embedding.dim))
        self.register_buffer("projection", projection, persistent=False)
        self.start_points = torch.rand(_START_POINTS, generator=generator, device="cpu")

    @torch.no_grad()
    def prepare(self, passes: Passes) -> None:
        """Fill the memory bank.

        The first pass selects the coreset among the projected patches, and the second collects its patches, so that not
        all training patches are in memory at once.
        """
        projected = torch.cat([self._project(self._patches(features)) for features in passes()])
        chosen = self.select(projected)
        kept = torch.zeros(len(projected), dtype=torch.bool, device=projected.device)
        kept[chosen] = True
        bank, first = [], 0
        for features in passes():
            patches = self._patches(features)
            bank.append(patches[kept[first : first + len(patches)]])
            first += len(patches)
        self.memory_bank = torch.cat(bank)

    def select(self, projected: Tensor) -> Tensor:
        """Select the coreset among the projected training patches ``(N, D)``; return its indices."""
        n_patches = len(projected)
        points = (self.start_points * n_patches).long().clamp_max(n_patches - 1)
        start = points if self.settings.start == "mean" else int(points[0])
        return select_coreset(projected, self._bank_rows(n_patches), start)

    def grown_rows(self, n_images: int) -> Mapping[str, int]:
        """Number of rows of the memory bank."""
        return {"memory_bank": self._bank_rows(n_images * math.prod(self.embedding.grid))}

    @torch.no_grad()
    def score(self, features: Features[Tensor]) -> Scores:
        """Return the mean distance of each patch to its nearest neighbours, and the largest one of each image."""
        if not len(self.memory_bank):
            raise NfbenchError("the memory bank of PatchCore is empty; train the method first")
        patches = self._patches(features)
        squared, indices = nearest_neighbors(patches, self.memory_bank, self.settings.neighbors)
        distances = squared if self.settings.distance == "squared" else squared.sqrt()
        scores = distances.mean(1).unflatten(0, (-1, *self.embedding.grid))
        images, farthest = scores.flatten(1).max(1)
        if self.settings.reweighting:
            rows = farthest + torch.arange(images.shape[0], device=images.device) * scores[0].numel()
            images = images * self._weights(patches[rows], indices[rows, 0])
        return Scores(self.maps(scores), images)

    def parameter_groups(self) -> dict[str, Sequence[nn.Parameter]]:
        """Return no groups: nothing is trained by gradient."""
        return {}

    def _bank_rows(self, n_patches: int) -> int:
        """Return the number of patches in the coreset."""
        return max(1, int(n_patches * self.settings.coreset_ratio))

    def _weights(self, patches: Tensor, nearest: Tensor) -> Tensor:
        """Weights of equation (7) for patches ``(B, D)`` and their nearest neighbours, by Euclidean distances.

        A patch counts less if its nearest neighbour is far from that neighbour's own neighbours.
        """
        _, around = nearest_neighbors(self.memory_bank[nearest], self.memory_bank, self.settings.reweighting_neighbors)
        distances = (patches[:, None] - self.memory_bank[around]).square().sum(2).sqrt()
        own = (patches - self.memory_bank[nearest]).square().sum(1).sqrt()
        return 1 - torch.exp(own - distances.logsumexp(1))

    def _patches(self, features: Features[Tensor]) -> Tensor:
        return self.embedding(features.levels).flatten(0, 1)

    def _project(self, patches: Tensor) -> Tensor:
        return patches if self.projection is None else patches @ self.projection.T


def nearest_neighbors(patches: Tensor, bank: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Find the nearest rows of ``bank``: squared distances, ascending, and indices, ``(N, min(count, M))`` each.

    A matrix product, by blocks of rows, finds the neighbours. Their distances are then computed from differences,
    because the product loses digits of distances that are small compared with the norms.
    """
    count = min(count, len(bank))
    norms = bank.square().sum(1)
    squared, indices = [], []
    for rows in parts_of(patches, max(1, _LARGEST_BLOCK // len(bank))):
        scores = torch.addmm(norms, rows, bank.T, alpha=-2)  # norms of 'rows' do not change the order
        found = scores.argmin(1, keepdim=True) if count == 1 else scores.topk(count, largest=False).indices
        distances = torch.stack([(rows - bank[column]).square().sum(1) for column in found.unbind(1)], dim=1)
        if count > 1:
            distances, order = _ascending(distances)
            found = found.gather(1, order)
        squared.append(distances)
        indices.append(found)
    return torch.cat(squared), torch.cat(indices)


def _ascending(distances: Tensor) -> tuple[Tensor, Tensor]:
    """Sort each row and return the order; stable except in a graph, because ONNX has no stable sort."""
    if torch.compiler.is_exporting():
        return distances.topk(distances.shape[1], largest=False)
    return distances.sort(dim=1, stable=True)


METHOD = PatchCore

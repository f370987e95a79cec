"""SubspaceAD: distance of each patch to a linear subspace of normal patches (CVPR 2026, arXiv 2602.23013).

Compared with the description of CLendering/SubspaceAD at 2ca687e.
Score of a position: ``||(x - m) - U U' (x - m)||^2``, with ``m`` the mean of all training patches and ``U`` the leading
eigenvectors of their covariance that explain ``explained_variance`` of it. Score of an image: mean of the top 1 % of
its map.

Deliberate deviations:

- At least one eigenvector is left out of the subspace, so scores are not 0 for every input.
- The repository averages seven blocks of a vision transformer. Levels of one shape are averaged here too; levels of
  different shapes are resized bilinearly to the finest one and concatenated, for convolutional backbones.
- The repository's few-shot results add 30 rotated copies of each image; this implementation does not.
"""

from collections.abc import Sequence
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from nfbench.blocks.features import Features
from nfbench.blocks.maps import ImageRule, resize_maps, top_percent_mean
from nfbench.blocks.method import Method, Passes, Scores
from nfbench.blocks.settings import FittedSettings
from nfbench.config import Range

__all__ = ["METHOD", "SubspaceAD", "SubspaceADSettings"]

MEMORY = {"parameters": 0, "network": 1e7}
"""See ``nfbench.plan.memory``; a covariance of some 2,000 channels, its eigenvectors and the solver's workspace, in
float64."""

_SIGMA = 4.0


class SubspaceADSettings(FittedSettings):
    """Defaults of the repository."""

    val_fraction: float = Field(
        0.0, ge=0, lt=1, description="share of the normal training images held out for the selection 'val'"
    )
    explained_variance: float = Field(
        0.99, gt=0, lt=1, description="share of the variance of normal patches that the subspace explains"
    )


class SubspaceAD(Method):
    """Principal component analysis of all patches; the residual outside the subspace is the anomaly score.

    Attributes:
        mean: ``m``, ``(D,)``.
        residual: eigenvectors outside the subspace, ``(D - r, D)``. The norm of a patch's projection on them is its
            distance to the subspace.
    """

    title = "SubspaceAD"
    image_rule: ClassVar[ImageRule] = "top1"
    settings_type = SubspaceADSettings
    settings: SubspaceADSettings
    mean: Tensor
    residual: Tensor
    search_space = {"explained_variance": Range(low=0.5, high=0.999)}

    def build(self, generator: torch.Generator) -> None:
        """Allocate the mean and the eigenvectors; nothing is random."""
        self.averaged = len(set(self.shapes)) == 1
        widths = [shape.channels for shape in self.shapes]
        dim = widths[0] if self.averaged else sum(widths)
        self.register_buffer("mean", torch.zeros(dim, dtype=torch.double))
        self.register_buffer("residual", torch.zeros(0, dim, dtype=torch.double))

    @torch.no_grad()
    def prepare(self, passes: Passes) -> None:
        """Fit mean and covariance in float64, in two passes; keep the eigenvectors with the least variance."""
        count, total = 0, torch.zeros_like(self.mean)
        for features in passes():
            x = self._patches(features).flatten(0, -2)
            count, total = count + len(x), total + x.sum(0)
        self.mean.copy_(total / count)
        scatter = torch.zeros(len(self.mean), len(self.mean), dtype=torch.double, device=self.mean.device)
        for features in passes():
            centred = self._patches(features).flatten(0, -2) - self.mean
            scatter.addmm_(centred.T, centred)
        variances, vectors = torch.linalg.eigh(scatter)  # ascending; the divisor N - 1 does not change shares
        left_out = variances.clamp_min(0).cumsum(0) <= (1 - self.settings.explained_variance) * variances.sum()
        self.residual = vectors.T[: max(1, int(left_out.sum()))].contiguous()

    @torch.no_grad()
    def score(self, features: Features[Tensor]) -> Scores:
        """Return the squared distances to the subspace, up-sampled and blurred."""
        projected = (self._patches(features) - self.mean) @ self.residual.T
        distances = projected.square().sum(-1).float()
        maps = _blur(resize_maps([distances], self.map_size)[0])
        return Scores(maps, top_percent_mean(maps))

    def parameter_groups(self) -> dict[str, Sequence[nn.Parameter]]:
        """Return no groups: nothing is trained by gradient."""
        return {}

    def _patches(self, features: Features[Tensor]) -> Tensor:
        """Return the vectors of all positions, ``(B, H_1, W_1, D)`` float64."""
        levels = features.levels
        if self.averaged:
            x = torch.stack(list(levels)).mean(0)
        else:
            size = levels[0].shape[2:]
            resized = [functional.interpolate(level, size, mode="bilinear") for level in levels[1:]]
            x = torch.cat([levels[0], *resized], dim=1)
        return x.permute(0, 2, 3, 1).double()


def _blur(maps: Tensor) -> Tensor:
    """The repository's Gaussian of sigma 4 truncated to 3 x 3 pixels, almost a mean; ``(B, H, W)``."""
    offsets = torch.arange(-1.0, 2.0, device=maps.device)
    line = torch.exp(-0.5 * (offsets / _SIGMA).square())
    kernel = torch.outer(line, line) / line.sum().square()
    return functional.conv2d(functional.pad(maps[:, None], (1, 1, 1, 1), mode="reflect"), kernel[None, None])[:, 0]


METHOD = SubspaceAD

"""PaDiM: a Gaussian at each position (Defard et al., ICPR 2020 workshops, arXiv 2011.08785).

There is no official code; compared with the description of xiahaifeng1995/PaDiM-Anomaly-Detection-Localization-master,
which most published results refer to, and with anomalib's port by tests.
Score: Mahalanobis distance ``sqrt((x - m)' C^-1 (x - m))`` of a position, up-sampled and smoothed; the image score is
    the maximum of the map.

Deliberate deviations: features cover the whole image. That repository crops the centre, which hides defects at the
    border while the image keeps its label. Covariances are divided by N - 1, as in the repository; anomalib adds 1e-5
    to the diagonal, in addition to 0.01.
"""

import math
from collections.abc import Iterator, Sequence
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from nfbench.blocks.features import Features
from nfbench.blocks.maps import ImageRule
from nfbench.blocks.method import Passes, Scores, Tiny
from nfbench.blocks.patches import PatchMethod, PatchSettings
from nfbench.blocks.settings import FittedSettings
from nfbench.blocks.whitening import inverse_factor
from nfbench.config import Range
from nfbench.core.errors import NfbenchError

__all__ = ["METHOD", "Padim", "PadimSettings", "pack_rows", "unpack_rows"]

MEMORY = {"parameters": 0, "state": 4, "channels": 550}
"""See ``nfbench.plan.memory``."""

_POSITIONS = 16
"""Number of positions whose covariances are factorized at a time, in float64."""
_SUMS = 2**29
"""Bytes of covariances summed at a time, in float64; each part needs a pass over the training images."""
_ROWS = 32
"""Number of rows of a triangular matrix stored together, with the width of the longest."""
_SMALLEST_SHARE = 1e-13
"""Share of the sum of variances; a smaller eigenvalue counts as rounding error."""


class PadimSettings(PatchSettings, FittedSettings):
    """Defaults of xiahaifeng1995's repository for WRN-50, on levels 1 to 3 of the backbone."""

    reduced_dimensions: int = Field(
        550, ge=1, description="number of channels drawn at random from all levels; all channels if there are fewer"
    )
    regularization: float = Field(0.01, gt=0, description="added to the diagonal of each covariance")


class Padim(PatchMethod):
    """Mean and covariance of randomly drawn channels, by position.

    Attributes:
        channels: drawn channels ``(D,)``, ascending, counted through all levels.
        mean: ``(P, D)`` for P positions of the finest level, row by row.
        whitening: inverse Cholesky factors ``W`` of the covariances, ``(P, E)``, packed by ``pack_rows``; ``||W (x -
            m)||`` is the distance.
    """

    title = "PaDiM"
    image_rule: ClassVar[ImageRule] = "max"
    settings_type = PadimSettings
    settings: PadimSettings
    channels: Tensor
    mean: Tensor
    whitening: Tensor
    tiny = Tiny({"reduced_dimensions": 16})
    search_space = {
        "reduced_dimensions": Range(low=50, high=1000),
        "regularization": Range(low=1e-4, high=1.0, log=True),
    }
    backbone_settings = {
        "resnet18": {"reduced_dimensions": 100},
        "efficientnet_b5": {"reduced_dimensions": 200},
        "tf_efficientnet_b5": {"reduced_dimensions": 200},
    }

    def build(self, generator: torch.Generator) -> None:
        """Draw the channels, and allocate the Gaussians."""
        n_channels = sum(shape.channels for shape in self.shapes)
        drawn = torch.randperm(n_channels, generator=generator, device="cpu")
        drawn = drawn[: self.settings.reduced_dimensions].sort().values
        self.grid = (self.shapes[0].height, self.shapes[0].width)
        positions, dim = math.prod(self.grid), len(drawn)
        self.register_buffer("channels", drawn)
        self.register_buffer("mean", torch.zeros(positions, dim))
        self.register_buffer("whitening", torch.zeros(positions, sum(rows * width for rows, width in _blocks(dim))))

    @torch.no_grad()
    def prepare(self, passes: Passes) -> None:
        """Fit the Gaussians in float64: means, then covariances, at most ``_SUMS`` bytes at a time."""
        n_images, total = 0, torch.zeros_like(self.mean, dtype=torch.float64)
        for features in passes():
            x = self._vectors(features)
            n_images += x.shape[1]
            total = total + x.double().sum(1)
        if n_images < 2:
            raise NfbenchError(f"PaDiM needs 2 or more training images to compute covariances, got {n_images}")
        mean = total / n_images
        self.mean.copy_(mean)
        positions, dim = mean.shape
        for part in torch.arange(positions, device=mean.device).split(max(1, _SUMS // (8 * dim**2))):
            self._fit_covariances(passes, part, mean[part], n_images)

    def _fit_covariances(self, passes: Passes, part: Tensor, mean: Tensor, n_images: int) -> None:
        """Fit the Gaussians of the positions ``part``, with means ``(P, D)``; free the sums on return."""
        sums = mean.new_zeros(len(part), mean.shape[1], mean.shape[1])
        for features in passes():
            centred = self._vectors(features)[part].double() - mean[:, None]
            sums.baddbmm_(centred.mT, centred, alpha=1 / (n_images - 1))
        for rows, covariances in zip(part.split(_POSITIONS), sums.split(_POSITIONS), strict=True):
            self.whitening[rows] = pack_rows(self._whiten(covariances).float())

    def _whiten(self, covariances: Tensor) -> Tensor:
        """Inverse Cholesky factors of covariances ``(P, D, D)``, regularized in place.

        ``regularization`` is absolute, as published. It is raised if variances are so large that float64 would round it
        away.
        """
        variances = covariances.diagonal(dim1=1, dim2=2)
        variances += (_SMALLEST_SHARE * variances.sum(1, keepdim=True)).clamp_min(self.settings.regularization)
        return inverse_factor(torch.linalg.cholesky(covariances))

    def log_likelihood(self, features: Features[Tensor]) -> Tensor:
        """Log-density of the drawn channels at all positions in nats per dimension, ``(B,)``."""
        blocks = _unpacked(self.whitening, self.mean.shape[1])
        diagonals = (block.diagonal(offset=width - rows, dim1=1, dim2=2) for block, rows, width in blocks)
        log_det = torch.stack([diagonal.double().log().sum() for diagonal in diagonals]).sum()
        squared = self._squared_distances(features).double().flatten(1).sum(1)
        return ((log_det - 0.5 * squared) / self.mean.numel() - 0.5 * math.log(2 * math.pi)).float()

    def score(self, features: Features[Tensor]) -> Scores:
        """Return the Mahalanobis distances as a smoothed map, and its maximum."""
        maps = self.maps(self._squared_distances(features).sqrt())
        return Scores(maps, maps.flatten(1).amax(1))

    def parameter_groups(self) -> dict[str, Sequence[nn.Parameter]]:
        """Return no groups: nothing is trained by gradient."""
        return {}

    def _squared_distances(self, features: Features[Tensor]) -> Tensor:
        """Return the squared Mahalanobis distance of each position, ``(B, H_1, W_1)``."""
        centred = (self._vectors(features) - self.mean[:, None]).contiguous()
        squared = centred.new_zeros(centred.shape[:2])
        for block, _, width in _unpacked(self.whitening, centred.shape[2]):
            squared += torch.bmm(centred[:, :, :width], block.mT).square().sum(2)
        return squared.T.unflatten(1, self.grid)

    def _vectors(self, features: Features[Tensor]) -> Tensor:
        """The drawn channels with coarser levels repeated to the finest, ``(P, B, D)``."""
        if torch.compiler.is_exporting():  # shapes in a graph cannot depend on the values of the channels
            levels = [functional.interpolate(x, self.grid, mode="nearest") for x in features.levels]
            return torch.cat(levels, dim=1).index_select(1, self.channels).flatten(2).permute(2, 0, 1)
        drawn, first = [], 0
        for x in features.levels:
            inside = (self.channels >= first) & (self.channels < first + x.shape[1])
            if inside.any():
                level = x.index_select(1, self.channels[inside] - first)
                drawn.append(functional.interpolate(level, self.grid, mode="nearest").flatten(2))
            first += x.shape[1]
        return torch.cat(drawn, dim=1).permute(2, 0, 1)


def pack_rows(factors: Tensor) -> Tensor:
    """Pack lower triangular matrices ``(P, D, D)`` to ``(P, E)``, little more than half of their values.

    Blocks of ``_ROWS`` rows have the width of their last row, so that products need no unpacking.
    """
    ends = [width for _, width in _blocks(factors.shape[1])]
    parts = [factors[:, first:last, :last].flatten(1) for first, last in zip([0, *ends], ends, strict=False)]
    return torch.cat(parts, dim=1)


def unpack_rows(packed: Tensor, dim: int) -> Tensor:
    """Unpack the result of ``pack_rows`` to lower triangular matrices ``(P, D, D)``."""
    parts = [functional.pad(block, (0, dim - width)) for block, _, width in _unpacked(packed, dim)]
    return torch.cat(parts, dim=1)


def _blocks(dim: int) -> Iterator[tuple[int, int]]:
    """Number of rows and width of each block of a triangular matrix of ``dim`` rows."""
    for first in range(0, dim, _ROWS):
        last = min(first + _ROWS, dim)
        yield last - first, last


def _unpacked(packed: Tensor, dim: int) -> Iterator[tuple[Tensor, int, int]]:
    """Each block as ``(P, rows, width)``, sharing memory with ``packed``, and its number of rows and width."""
    first = 0
    for rows, width in _blocks(dim):
        last = first + rows * width
        yield packed[:, first:last].unflatten(1, (rows, width)), rows, width
        first = last


METHOD = Padim

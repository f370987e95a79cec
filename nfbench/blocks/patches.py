"""Common parts of PatchCore, SimpleNet and PaDiM: local patch embeddings, and maps from patch scores."""

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from nfbench.blocks.exporting import parts_of
from nfbench.blocks.maps import resize_maps, smooth
from nfbench.blocks.method import LevelShape, Method
from nfbench.blocks.settings import MethodSettings

__all__ = ["Embedding", "PatchEmbedding", "PatchMethod", "PatchSettings"]

Embedding = Literal["official", "average"]


class PatchSettings(MethodSettings):
    """Settings of methods that score patches separately; held-out images do not select an epoch."""

    val_fraction: float = Field(
        0.0, ge=0, lt=1, description="share of the normal training images held out for the selection 'val'"
    )
    smoothing: float = Field(4.0, ge=0, description="sigma of a Gaussian on the anomaly map, in pixels")


class PatchMethod(Method):
    """A method that scores the positions of the finest level."""

    settings: PatchSettings

    def maps(self, patch_scores: Tensor) -> Tensor:
        """Up-sample patch scores ``(B, H_1, W_1)`` bilinearly to ``map_size`` and smooth them."""
        return smooth(resize_maps([patch_scores], self.map_size)[0], self.settings.smoothing)


class PatchEmbedding(nn.Module):
    """Embeds each position of the finest level by its 3 x 3 neighbourhood in all levels.

    - ``official``: for each level, the 9 C values of the zero-padded neighbourhood are averaged in order into
      ``pretrain_dim`` values; coarser levels are resized bilinearly to the finest one; the values of all levels are
      averaged in order into ``target_dim`` values.
    - ``average``: each channel is averaged over the neighbourhood; coarser levels are resized bilinearly, and all
      channels are kept. This is anomalib's form.

    Args:
        shapes: shape of each level, fine to coarse.
        pretrain_dim: number of values per level.
        target_dim: number of values per patch.
        form: ``official`` or ``average``.

    Attributes:
        dim: length of an embedding.
        grid: height and width of the finest level.
    """

    def __init__(self, shapes: Sequence[LevelShape], pretrain_dim: int, target_dim: int, form: Embedding) -> None:
        super().__init__()
        self.pretrain_dim = pretrain_dim
        self.form = form
        self.dim = target_dim if form == "official" else sum(shape.channels for shape in shapes)
        self.grid = (shapes[0].height, shapes[0].width)

    @torch.no_grad()
    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """Levels ``(B, C_l, H_l, W_l)`` to patches ``(B, H_1 * W_1, dim)``, row by row.

        One image at a time: the neighbourhoods take nine times the memory of the features.
        """
        embed = self._official if self.form == "official" else self._average
        return torch.cat([embed(image) for image in zip(*(parts_of(x, 1) for x in levels), strict=True)])

    def _official(self, image: Sequence[Tensor]) -> Tensor:
        # averaging at a position and resizing across positions commute; averaging first leaves less to resize
        levels = [_pool(functional.unfold(x, 3, padding=1).mT, self.pretrain_dim) for x in image]
        resized = [self._resize(y.mT.unflatten(2, x.shape[2:])) for x, y in zip(image, levels, strict=True)]
        return _pool(torch.cat(resized, dim=1).flatten(2).mT, self.dim)

    def _average(self, image: Sequence[Tensor]) -> Tensor:
        resized = [self._resize(functional.avg_pool2d(x, 3, stride=1, padding=1)) for x in image]
        return torch.cat(resized, dim=1).flatten(2).mT

    def _resize(self, x: Tensor) -> Tensor:
        return x if x.shape[2:] == self.grid else functional.interpolate(x, self.grid, mode="bilinear")


def _pool(x: Tensor, dim: int) -> Tensor:
    """Average the last axis in order into ``dim`` values: ``(B, P, n)`` to ``(B, P, dim)``."""
    return x if x.shape[2] == dim else functional.adaptive_avg_pool1d(x, dim)

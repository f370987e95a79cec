"""SPADE: distance of positions to the nearest ones in similar normal images (Cohen and Hoshen, arXiv 2005.02357).

There is no official code; compared with the description of byungjae89/SPADE-pytorch.
Image score: mean distance of the averaged last level to those of the K most similar training images. Score of a
    position: distance to the nearest position, anywhere, in these K images, averaged over the other levels.

Deliberate deviations: features cover the whole image. The repository crops the centre, which hides defects at
the border while the image keeps its label. All positions of the K images are searched; the repository searches them in
hundreds and drops the remainder. Distances are exact, without the 1e-6 that it adds to each difference. K is 5, as in
the repository; the paper uses 50.
"""

from collections.abc import Mapping, Sequence

import torch
from pydantic import Field
from torch import Tensor, nn

from nfbench.blocks.exporting import parts_of
from nfbench.blocks.features import Features
from nfbench.blocks.maps import resize_maps, smooth
from nfbench.blocks.method import Method, Passes, Scores
from nfbench.blocks.patches import PatchSettings
from nfbench.blocks.settings import FittedSettings
from nfbench.config import Range
from nfbench.core.errors import NfbenchError
from nfbench.methods.patchcore import nearest_neighbors

__all__ = ["METHOD", "Spade", "SpadeSettings"]

MEMORY = {"parameters": 0, "patches": 2048}
"""See ``nfbench.plan.memory``; WRN-50 has 448 values per position of level 1, twice in memory while they are
joined."""

_LARGEST_BLOCK = 2**24


class SpadeSettings(PatchSettings, FittedSettings):
    """Defaults of the repository for WRN-50, on levels 1 to 4 of the backbone; the last one is for image scores."""

    neighbors: int = Field(
        5, ge=1, description="number of most similar training images to search for matching positions"
    )


class Spade(Method):
    """A gallery of all training images: the average of the last level, and all positions of the other levels.

    Attributes:
        vectors: averages of the last level ``(N, C)``.
        gallery0, gallery1, ...: positions of each other level ``(N, H_l * W_l, C_l)``. They are fp16, the precision of
        cached features, which halves the memory without changing values.
    """

    title = "SPADE"
    settings_type = SpadeSettings
    settings: SpadeSettings
    vectors: Tensor
    search_space = {"neighbors": Range(low=1, high=50)}

    def build(self, generator: torch.Generator) -> None:
        """Allocate the buffers for the training images; nothing is random."""
        *searched, last = self.shapes
        if not searched:
            raise NfbenchError(
                "SPADE finds similar images by the last level and anomalies in the others, but its backbone has one "
                "level; give it at least two 'levels'"
            )
        self.register_buffer("vectors", torch.empty(0, last.channels))
        for name, shape in zip(self._names, searched, strict=True):
            empty = torch.empty(0, shape.height * shape.width, shape.channels, dtype=torch.half)
            self.register_buffer(name, empty)

    @property
    def _names(self) -> list[str]:
        """Return the names of the galleries, fine to coarse."""
        return [f"gallery{number}" for number in range(len(self.shapes) - 1)]

    @torch.no_grad()
    def prepare(self, passes: Passes) -> None:
        """Store the training images."""
        kept: dict[str, list[Tensor]] = {name: [] for name in (*self._names, "vectors")}
        for features in passes():
            kept["vectors"].append(_averages(features))
            for name, positions in zip(self._names, _positions(features), strict=True):
                kept[name].append(positions.half())
        for name, parts in kept.items():
            setattr(self, name, torch.cat(parts))
            parts.clear()

    def grown_rows(self, n_images: int) -> Mapping[str, int]:
        """Return one row of each buffer per image."""
        return dict.fromkeys((*self._names, "vectors"), n_images)

    @torch.no_grad()
    def score(self, features: Features[Tensor]) -> Scores:
        """Return the mean distance to the K most similar images, and the map of distances to their positions."""
        if not len(self.vectors):
            raise NfbenchError("SPADE has no training images; train the method first")
        squared, similar = nearest_neighbors(_averages(features), self.vectors, self.settings.neighbors)
        galleries = map(self.get_buffer, self._names)
        levels = zip(_positions(features), galleries, self.shapes[:-1], strict=True)
        found = [_search(x, gallery, similar).unflatten(1, shape[1:]) for x, gallery, shape in levels]
        maps = smooth(resize_maps(found, self.map_size).mean(0), self.settings.smoothing)
        return Scores(maps, squared.sqrt().mean(1))

    def parameter_groups(self) -> dict[str, Sequence[nn.Parameter]]:
        """Return no groups: nothing is trained by gradient."""
        return {}


def _averages(features: Features[Tensor]) -> Tensor:
    """Return the averages of the last level, ``(B, C)``."""
    return features.levels[-1].mean((2, 3))


def _positions(features: Features[Tensor]) -> list[Tensor]:
    """Return the positions of the other levels, ``(B, H_l * W_l, C_l)`` each."""
    return [level.flatten(2).mT for level in features.levels[:-1]]


def _search(positions: Tensor, gallery: Tensor, similar: Tensor) -> Tensor:
    """Distance of each position to the nearest one of the similar images.

    Images are compared one pair at a time; in an exported graph, whose batch size is dynamic, one batch at a time.

    Args:
        positions: ``(B, P, C)``.
        gallery: ``(N, P, C)``.
        similar: rows of the gallery ``(B, K)``.

    Returns:
        ``(B, P)``.
    """
    found = []
    for image, rows in zip(parts_of(positions, 1), parts_of(similar, 1), strict=True):
        others = (gallery.index_select(0, row).to(image.dtype) for row in rows.unbind(1))
        found.append(torch.stack([_nearest(image, other) for other in others]).amin(0))
    return torch.cat(found).sqrt()


def _nearest(positions: Tensor, other: Tensor) -> Tensor:
    """Squared distance of each position to the nearest one in another image, two ``(B, P, C)`` to ``(B, P)``.

    As in ``nearest_neighbors``, a matrix product finds it by blocks of rows, and differences give its distance.
    """
    norms, columns = other.square().sum(2)[:, None], other.mT
    scores = (
        torch.baddbmm(norms, rows, columns, alpha=-2)
        for rows in positions.split(max(1, _LARGEST_BLOCK // positions.shape[1]), dim=1)
    )
    nearest = torch.cat([each.argmin(2) for each in scores], dim=1)
    return (positions - other.gather(1, nearest[..., None].expand_as(other))).square().sum(2)


METHOD = Spade

"""A trained method on its backbone, from pictures to scores."""

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import replace
from functools import cached_property, partial

import numpy as np
import torch
from torch import nn

from nfbench.blocks.features import Features
from nfbench.blocks.method import Method
from nfbench.blocks.tiling import Size, Tiling
from nfbench.features.batches import BATCH, of_class
from nfbench.features.extractor import Extractor
from nfbench.features.forward import Picture, load_extractor
from nfbench.features.live import ComputedFeatures
from nfbench.features.recipe import Recipe
from nfbench.features.shards import StoredArray
from nfbench.features.tiling import cut, tiling_of
from nfbench.scoring.gradients import GradientMaps
from nfbench.scoring.maps import ScoredImages, score_images

__all__ = ["Scorer"]


class Scorer:
    """Score pictures without files, with the same numbers as ``extract_features`` and ``score_run``.

    Args:
        model: trained method on ``device``, in evaluation mode when it scores.
        recipe: how features are made.
        device: where to compute.
        extractor: network of the recipe, if it is loaded.
        class_number: class of the pictures, for methods that take it.
        batch_size: pictures per call of the method; defaults to that of the stages, for equal bits.
        network: loads the network of the recipe, by default as ``load_extractor`` does.

    Attributes:
        merged_size: size of the merged maps of tiles; by default in proportion to the largest picture of a call.
    """

    merged_size: Size | None = None

    def __init__(
        self,
        model: Method,
        recipe: Recipe,
        device: torch.device,
        extractor: nn.Module | None = None,
        class_number: int = 0,
        batch_size: int = BATCH,
        network: Callable[[], nn.Module] | None = None,
    ) -> None:
        self.batch_size = batch_size
        self.model, self.recipe, self.device, self.class_number = model, recipe, device, class_number
        self._load = network or partial(load_extractor, recipe)
        self.extractor = Extractor(recipe, device, network() if network and extractor is None else extractor)

    def at(self, batch_size: int) -> "Scorer":
        """Return a copy with another batch size that shares the network."""
        other = copy(self)
        other.batch_size = batch_size
        return other

    @cached_property
    def _network(self) -> nn.Module:
        """Return the backbone for gradients, in torch's default memory format."""
        return self._load().to(self.device)

    def tiling(self, pictures: Sequence[Picture]) -> Tiling | None:
        """Return the tiles of pictures; None if they are not cut."""
        return tiling_of(pictures, self.recipe.backbone.tiles, self.merged_size)

    def features(self, pictures: Sequence[Picture]) -> Features[StoredArray]:
        """Return features of pictures, computed on access."""
        tiling = self.tiling(pictures)
        tiles = cut(pictures, tiling)
        computed = ComputedFeatures(tiles, self.extractor)
        features = replace(self.recipe.features(computed.read(np.arange(len(tiles)))), tiling=tiling)
        return of_class(features, self.class_number) if self.model.takes_class else features

    def score(self, pictures: Sequence[Picture]) -> ScoredImages:
        """Score pictures; the features of all of them are held in memory.

        Raises:
            NfbenchError: a picture cannot be read, or a score is not finite.
        """
        localize = None
        if self.model.gradient_maps:
            tiles = cut(pictures, self.tiling(pictures))
            localize = GradientMaps(self.model, tiles, self.recipe, self.device, self._network)
        features = self.features(pictures)
        return score_images(self.model, features, self.device, localize=localize, batch_size=self.batch_size)

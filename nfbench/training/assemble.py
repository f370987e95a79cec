"""What a variant is trained on: normal images, augmented or replaced by pseudo-anomalies, and joined by real ones."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from PIL import Image

from nfbench.anomalies.base import AnomalyGenerator, make_generator
from nfbench.anomalies.selection import choose_anomalies
from nfbench.config import AnomaliesConfig
from nfbench.datasets.manifest import Entry, read_checked_mask
from nfbench.errors import NfbenchError
from nfbench.features.cache import FeatureCache
from nfbench.features.extract import images_hash
from nfbench.features.online import OnlineFeatures, RandomRotations, pseudo_anomalies
from nfbench.methods.base import Method
from nfbench.training.data import CachedImages, CachedViews, Source, TrainingData

__all__ = ["Images", "assemble"]

_NEAREST = Image.Resampling.NEAREST


@dataclass
class Images:
    """Everything that a training may read.

    Attributes:
        entries: the category's manifest.
        features: cached features of the normal training images.
        anomalies: what the variant says of the anomalies that it is trained with.
        pseudo: cached views of pseudo-anomalies, where ``anomalies`` asks for them.
        test: cached features of the test images, where ``anomalies`` asks for real ones.
        seed: number of the seed, which chooses the real anomalies.
        real: the real anomalies that were chosen.
        generator: makes the pseudo-anomalies, if any.

    Raises:
        NfbenchError: cached features are missing, or are those of another view, seed or category.
    """

    entries: Sequence[Entry]
    features: FeatureCache
    anomalies: AnomaliesConfig | None = None
    pseudo: FeatureCache | None = None
    test: FeatureCache | None = None
    seed: int = 0
    real: list[Entry] = field(init=False, default_factory=list)
    generator: AnomalyGenerator | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        if self.anomalies is None:
            return
        if self.anomalies.real:
            self.real = choose_anomalies(self.entries, self.anomalies.real, self.seed)
            tested = [entry for entry in self.entries if entry.split == "test"]
            self._check_cache("--test-features", self.test, "test", tested)
        if self.anomalies.generator:
            size = self.features.meta["input_size"]
            self.generator, used = make_generator(self.anomalies, self.entries, self.seed, size)
            if not self.anomalies.online:
                self._check_cache("--pseudo-features", self.pseudo, self.anomalies.view(self.seed), used)

    def _check_cache(self, option: str, cache: FeatureCache | None, view: str, entries: Sequence[Entry]) -> None:
        """Refuses features of another view, seed or category."""
        if cache is None:
            raise NfbenchError(f"these anomalies are read from a cache: {option} is missing, the view '{view}'")
        cache.require_same_source(self.features.meta, self.features.path)
        if (cache.meta["view"], cache.meta["images_sha256"]) != (view, images_hash(entries)):
            raise NfbenchError(
                f"{option} {cache.path}: holds the view '{cache.meta['view']}', or other images, where the view "
                f"'{view}' of this category and seed is needed"
            )


def assemble(method: Method, images: Images, seed: int, device: torch.device) -> TrainingData:
    """Training data of a method.

    Args:
        method: says in its settings and properties what it takes.
        images: what there is.
        seed: decides split, order and random draws.
        device: where batches are wanted.

    Raises:
        NfbenchError: the method takes no anomalies, or needs some, or needs the image beside the features; or the mask
            of a real anomaly is empty at the input's size.
    """
    _check(method, images)
    rotation, levels, meta = method.settings.online_rotation, images.features.levels, images.features.meta
    source: Source | None = None
    if rotation:
        train = [entry for entry in images.entries if entry.split == "train"]
        views = method.settings.train_views if method.takes_views else None
        source = OnlineFeatures(RandomRotations(train, meta["input_size"], rotation, views), len(train), meta, device)
    joined: list[tuple[Source, int]] = []
    if images.anomalies:
        pseudo = _pseudo_source(images, device)
        if images.real:
            joined.append((_real_source(images, device), images.anomalies.repeats))
        if pseudo and pseudo[1]:
            joined.append((pseudo[0], images.anomalies.repeats))
        elif pseudo:
            source = pseudo[0]
    return TrainingData(levels, method.settings.val_fraction, seed, device, source, joined)


def _check(method: Method, images: Images) -> None:
    if method.takes_image != images.features.meta["image"]:
        key = "needs 'image: true'" if method.takes_image else "takes no 'image: true'"
        raise NfbenchError(f"method '{method.title}' {key} in its backbone")
    if images.anomalies and not method.takes_anomalies:
        raise NfbenchError(
            f"method '{method.title}' with these settings learns nothing from 'anomalies' of its variant"
        )
    if method.needs_anomalies and not images.anomalies:
        raise NfbenchError(
            f"method '{method.title}' with these settings learns from anomalies; give its variant 'anomalies', such as "
            "{generator: blend}"
        )
    if images.anomalies and images.anomalies.generator:
        if method.settings.online_rotation:
            raise NfbenchError("'online_rotation' of the settings and a 'generator' of anomalies exclude each other")
        if method.settings.val_fraction:
            raise NfbenchError(
                "pseudo-anomalies are made of all normal training images, so that none can be held out; set the "
                f"variant's 'val_fraction: 0' (now {method.settings.val_fraction:g})"
            )


def _pseudo_source(images: Images, device: torch.device) -> tuple[Source, bool] | None:
    """Where pseudo-anomalies come from, and whether they join the normal images instead of replacing them."""
    generator = images.generator
    if generator is None:
        return None
    if images.anomalies.online:
        draw = pseudo_anomalies(generator)
        return OnlineFeatures(draw, len(generator), images.features.meta, device), generator.needs_real
    return CachedViews(images.pseudo.levels, images.pseudo.masks, device), generator.needs_real


def _real_source(images: Images, device: torch.device) -> CachedImages:
    """Real anomalies of the test set, with their masks at the input's size."""
    tested = [entry for entry in images.entries if entry.split == "test"]
    indices = [tested.index(entry) for entry in images.real]
    side = images.features.meta["input_size"]
    masks = []
    for entry in images.real:
        mask = Image.fromarray(read_checked_mask(entry).astype(np.uint8) * 255).resize((side, side), _NEAREST)
        if mask.getbbox() is None:
            raise NfbenchError(
                f"mask {entry.mask} marks no pixel at {side} x {side}; raise the backbone's 'input_size', or take "
                "other anomalies by another seed"
            )
        masks.append(np.array(mask))
    return CachedImages([level[indices] for level in images.test.levels], device, np.stack(masks))

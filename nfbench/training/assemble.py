"""Training images of a variant: normal images, or pseudo-anomalies in their place, and real anomalies."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from PIL import Image

from nfbench.anomalies._base import AnomalyGenerator, make_generator
from nfbench.anomalies._selection import choose_anomalies
from nfbench.blocks.features import Features
from nfbench.blocks.method import Method
from nfbench.blocks.network import check_backbone
from nfbench.blocks.settings import TrainedSettings
from nfbench.blocks.tiling import Tiling
from nfbench.config import AnomaliesConfig
from nfbench.core.errors import NfbenchError, required
from nfbench.core.input_size import InputSize
from nfbench.datasets._drawn import Drawn, drawn_entries
from nfbench.datasets._manifest import Entry, read_checked_mask, view_entries
from nfbench.features.batches import CachedFeatures, Source, of_class
from nfbench.features.cache import FeatureCache
from nfbench.features.drawn import drawn_features
from nfbench.features.forward import images_hash
from nfbench.features.online import OnlineFeatures, RandomRotations, pseudo_anomalies
from nfbench.features.shards import StoredArray
from nfbench.features.stacked import StackedArrays
from nfbench.features.tiling import cut
from nfbench.training.data import CachedImages, CachedViews, JoinedSources, TrainingData

__all__ = ["Images", "assemble", "rotation_of"]

_NEAREST = Image.Resampling.NEAREST


@dataclass
class Images:
    """The inputs of a training from one category.

    Attributes:
        entries: the category's manifest.
        features: cached features of the view ``train``: the normal training images first, then the validation images,
            which training does not read.
        anomalies: the variant's configuration of training anomalies; None for none.
        pseudo: cached views of pseudo-anomalies; required if ``anomalies`` caches them.
        test: cached features of the test images; required if ``anomalies`` uses real anomalies or ``drawn`` adds some.
        seed: number of the seed; it determines which real anomalies are chosen.
        drawn: images that the condition of the run draws; None for all normal ones.
        real: the chosen real anomalies.
        generator: generator of the pseudo-anomalies; None without them.

    Raises:
        NfbenchError: cached features are missing, or belong to another view, seed or category.
    """

    entries: Sequence[Entry]
    features: FeatureCache
    anomalies: AnomaliesConfig | None = None
    pseudo: FeatureCache | None = None
    test: FeatureCache | None = None
    seed: int = 0
    drawn: Drawn | None = None
    real: list[Entry] = field(init=False, default_factory=list)
    generator: AnomalyGenerator | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        tested = view_entries(self.entries, "test")
        if self.drawn and self.drawn.added:
            self._check_cache("test_features", self.test, "test", tested)
        if self.anomalies is None:
            return
        if self.features.features.tiling is not None:
            raise NfbenchError("'tiles' of a backbone and 'anomalies' of a variant exclude each other")
        if self.anomalies.real:
            self.real = choose_anomalies(self.entries, self.anomalies.real, self.seed)
            self._check_cache("test_features", self.test, "test", tested)
        if self.anomalies.generator:
            size = self.features.meta.input_size
            self.generator, used = make_generator(self.anomalies, self.entries, self.seed, size)
            if view := self.anomalies.view(self.seed):
                self._check_cache("pseudo", self.pseudo, view, used)

    @property
    def n_validation(self) -> int:
        """Number of validation images."""
        return sum(entry.split == "validation" for entry in self.entries)

    @property
    def n_train(self) -> int:
        """Number of images that are trained on or held out as normal ones."""
        return self.drawn.n_train if self.drawn else len(self.features) - self.n_validation

    @property
    def normal(self) -> Features[StoredArray]:
        """Features of these images."""
        return drawn_features(self.features, self.test, len(self.features) - self.n_validation, self.drawn)

    @property
    def normal_entries(self) -> list[Entry]:
        """These images."""
        if self.drawn is None:
            return [entry for entry in self.entries if entry.split == "train"]
        return drawn_entries(self.entries, self.drawn)[: self.n_train]

    @property
    def repeats(self) -> int:
        """Number of times that each anomaly appears in an epoch."""
        return self.anomalies.repeats if self.anomalies else 0

    def _check_cache(self, key: str, cache: FeatureCache | None, view: str, entries: Sequence[Entry]) -> None:
        """Check that features have the expected view, seed and category."""
        if cache is None:
            raise NfbenchError(f"'{key}' is missing: the variant's anomalies need cached features of the view '{view}'")
        cache.require_same_source(self.features.meta, self.features.path)
        if (cache.meta.view, cache.meta.images_sha256) != (view, images_hash(entries)):
            raise NfbenchError(
                f"'{key}' {cache.path} holds the view '{cache.meta.view}' or other images; expected the view '{view}' "
                "of this category and seed"
            )


def assemble(method: Method, images: Sequence[Images], seed: int, device: torch.device) -> TrainingData:
    """Assemble the training data of a method.

    Args:
        method: its settings and properties determine which data it takes.
        images: inputs from each category, ordered by class number.
        seed: determines the split, the order and the random draws.
        device: device of the batches.

    Raises:
        NfbenchError: the method does not take anomalies, needs some, or needs another backbone; the mask of a real
            anomaly is empty at the input size; or the features of the categories do not match.
    """
    for one in images:
        _check(method, one)
        one.features.require_same_source(images[0].features.meta, images[0].features.path)
    features = _features(method, images)
    source = _rotated_source(method, images, device, features.tiling) if rotation_of(method) else None
    joined: list[tuple[Source, int]] = [(_real_source(one, device), one.repeats) for one in images if one.real]
    first = images[0]
    if first.generator and first.generator.needs_real:
        joined.append((_pseudo_source(images, device), first.repeats))
    elif first.generator:
        source = _pseudo_source(images, device)
    data = TrainingData(features, method.settings.val_fraction, seed, device, source, joined)
    _check_split(data, images, method.settings.val_fraction)
    return data


def _check_split(data: TrainingData, images: Sequence[Images], val_fraction: float) -> None:
    """Check that no class is held out completely; images are numbered class after class."""
    first = 0
    for one in images:
        last = first + one.n_train
        if not ((first <= data.train) & (data.train < last)).any():
            raise NfbenchError(
                f"'val_fraction' is {val_fraction:g} and holds out all {last - first} normal training images of "
                f"{one.features.path}; lower it, set it to 0, or add images"
            )
        first = last


def _features(method: Method, images: Sequence[Images]) -> CachedFeatures:
    """Cached features of all categories; several are stacked, so that they need not fit in memory."""
    found = [one.normal for one in images]
    if method.takes_class:
        found = [of_class(features, number) for number, features in enumerate(found)]
    if len(found) == 1:
        return found[0]
    return Features.join(found, StackedArrays)


def _rotated_source(
    method: Method, images: Sequence[Images], device: torch.device, tiling: Tiling | None = None
) -> Source:
    meta = images[0].features.meta
    train = cut([entry for one in images for entry in one.normal_entries], tiling)
    rotations = RandomRotations(train, meta.input_size, rotation_of(method), method.views or None)
    return OnlineFeatures(rotations, len(train), meta.recipe, device)


def rotation_of(method: Method) -> float:
    """Largest random rotation of the training images, in degrees; 0 for none."""
    return method.settings.online_rotation if isinstance(method.settings, TrainedSettings) else 0


def _check(method: Method, images: Images) -> None:
    check_backbone(method, images.features.meta.backbone)
    if method.takes_class and rotation_of(method):
        raise NfbenchError(f"method '{method.title}' reads its features from the cache; set 'online_rotation: 0'")
    if images.anomalies and not method.takes_anomalies:
        raise NfbenchError(
            f"method '{method.title}' with these settings does not use 'anomalies'; remove them from its variant"
        )
    if method.needs_anomalies and not images.anomalies:
        raise NfbenchError(
            f"method '{method.title}' with these settings needs anomalies; give its variant 'anomalies', such as "
            "{generator: blend}"
        )
    if images.anomalies and images.anomalies.generator:
        if rotation_of(method):
            raise NfbenchError("'online_rotation' and a 'generator' of anomalies cannot be combined; remove one")
        if method.settings.val_fraction:
            raise NfbenchError(
                "pseudo-anomalies use all normal training images, so none can be held out; set the variant's "
                f"'val_fraction: 0' (now {method.settings.val_fraction:g})"
            )


def _pseudo_source(images: Sequence[Images], device: torch.device) -> Source:
    """Source of pseudo-anomalies; each is made from images of its own category."""
    caches = [one.pseudo for one in images if one.pseudo is not None]
    if not caches:  # they are made online
        generators = [one.generator for one in images if one.generator is not None]
        total = sum(map(len, generators))
        return OnlineFeatures(pseudo_anomalies(generators), total, images[0].features.meta.recipe, device)
    single = len(caches) == 1
    views = [CachedViews(*cache.pseudo_views, device, resident=single) for cache in caches]
    return views[0] if single else JoinedSources(views, device)


def _real_source(images: Images, device: torch.device) -> CachedImages:
    """Real anomalies of the test set, with their masks at the input's size."""
    tested = view_entries(images.entries, "test")
    indices = [tested.index(entry) for entry in images.real]
    size = InputSize.of(images.features.meta.input_size)
    masks = []
    for entry in images.real:
        mask = Image.fromarray(read_checked_mask(entry).astype(np.uint8) * 255).resize(size.width_height, _NEAREST)
        if mask.getbbox() is None:
            raise NfbenchError(
                f"mask {entry.mask} marks no pixel at {size.height} x {size.width}; raise the backbone's 'input_size', "
                "or use another seed, which chooses other anomalies"
            )
        masks.append(np.array(mask))
    return CachedImages(required(images.test, "'test_features'").features[indices], device, np.stack(masks))

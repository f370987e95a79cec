"""The description of a feature cache, ``meta.json``, and its key."""

import hashlib
import json
from collections.abc import Collection, Iterator
from typing import Any

from nfbench.blocks.tiling import Tiling
from nfbench.config import BackboneConfig
from nfbench.config.backbone import Shape
from nfbench.core.input_size import Sides
from nfbench.core.record import Record
from nfbench.features.recipe import Recipe
from nfbench.plan.specs import ExtractSpec

__all__ = ["CachedFile", "FeatureMeta", "LiveSource", "SynthesisMeta", "cache_key", "describe_difference"]

_NOT_IDENTITY = {"tag", "files", "key", "seconds", "provenance", "online", "spec"}


class CachedFile(Record):
    """A file of a cache: its images of one level, or of the masks."""

    name: str
    level: str
    images: int
    sha256: str


class SynthesisMeta(Record):
    """Pseudo-anomalies: ``views`` of each image by a generator, from the real anomalies with these masks."""

    generator: str
    views: int
    seed: int
    masks_sha256: list[str]


class LiveSource(Record):
    """Of a cache without files: the manifest of its images, and where features are computed."""

    manifest: str
    device: str


class FeatureMeta(Record):
    """Everything that determines cached features, and what made them.

    Attributes:
        recipe: how features are computed from an image.
        tag: what the backbone's tag says, by key, after its name and input size.
        transform, dtype: how images become inputs, and the number format of the cache.
        view: ``train``, ``test``, or the name of a view of pseudo-anomalies.
        images_sha256: hash of the ``n_images`` images and their order.
        image_sizes: with tiles, the runs of ``Tiling``: numbers of consecutive images of one size, height and width.
        key: hash of all that determines the values.
        seconds: of the extraction.
        spec: the spec of the stage, None if no stage made it.
    """

    recipe: Recipe
    tag: dict[str, str] = {}
    transform: str
    dtype: str
    view: str
    n_images: int
    images_sha256: str
    image_sizes: list[tuple[int, int, int]] = []
    synthesis: SynthesisMeta | None = None
    online: LiveSource | None = None
    key: str = ""
    seconds: float = 0.0
    provenance: dict[str, Any] = {}
    spec: ExtractSpec | None = None
    files: list[CachedFile] = []

    @property
    def backbone(self) -> BackboneConfig:
        """Configuration of the backbone, with its defaults."""
        return self.recipe.backbone

    @property
    def input_size(self) -> Sides:
        """Side of the square input in pixels, or its height and width."""
        return self.backbone.input_size

    @property
    def map_size(self) -> tuple[int, int]:
        """Height and width of the input, which maps have."""
        return self.backbone.size

    @property
    def tiling(self) -> Tiling | None:
        """Images that rows are tiles of; None where each row is an image."""
        return Tiling.from_runs(self.backbone.tiles, self.image_sizes) if self.backbone.tiles else None

    @property
    def n_rows(self) -> int:
        """Number of rows of the arrays: tiles, or images."""
        return self.n_images if self.tiling is None else self.tiling.n_rows

    @property
    def stores_image(self) -> bool:
        """Whether the normalized image is kept, as the first array."""
        return self.backbone.stores_image

    @property
    def image_shape(self) -> Shape | None:
        """Shape of the normalized image, None where it is not kept."""
        return self.backbone.image_shape

    @property
    def shapes(self) -> list[Shape]:
        """``(C, H, W)`` of each level at each scale, without the image."""
        return list(self.recipe.level_shapes.values())

    @property
    def views(self) -> int:
        """Rotated views or pseudo-anomalies of each image that are cached; 0 for the image alone."""
        return self.backbone.rotations or (self.synthesis.views if self.synthesis else 0)


def cache_key(meta: FeatureMeta) -> str:
    """Hash over all that determines the cached values; keys that have their defaults do not change it."""
    identity = _identity(meta, exclude_defaults=True)
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def describe_difference(ours: FeatureMeta, theirs: FeatureMeta, ignore: Collection[str] = ()) -> str:
    """Entries in which two descriptions differ, with both values; empty if they agree."""
    named = set() if ours.recipe.weights_sha256 == theirs.recipe.weights_sha256 else {"weights"}
    one, other = (
        {name: value for name, value in _identity(meta, named).items() if name not in ignore} for meta in (ours, theirs)
    )
    return ", ".join(_differences(one, other))


def _identity(meta: FeatureMeta, named: Collection[str] = (), **options: Any) -> dict[str, Any]:
    """What determines the cached values, and keys of the backbone that are ``named`` beside."""
    backbone = type(meta.backbone)
    beside = {name for name in backbone.model_fields if not backbone.key(name).decides and name not in named}
    exclude: dict[str, Any] = {**dict.fromkeys(_NOT_IDENTITY, True), "recipe": {"backbone": beside}}
    found = meta.model_dump(mode="json", exclude=exclude, **options)
    return {**found.pop("recipe"), **found}


def _differences(one: Any, other: Any, where: str = "") -> Iterator[str]:
    if isinstance(one, dict) and isinstance(other, dict):
        for name in sorted(one.keys() | other.keys()):
            yield from _differences(one.get(name), other.get(name), f"{where}.{name}" if where else name)
    elif one != other:
        yield f"{where} ({one!r} and {other!r})"

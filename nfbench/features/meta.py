"""The description of a feature cache, ``meta.json``, and its key."""

import hashlib
import json
from collections.abc import Collection
from typing import Any

from nfbench.core.record import Record
from nfbench.plan.specs import ExtractSpec

__all__ = ["CachedFile", "FeatureMeta", "LiveSource", "SynthesisMeta", "cache_key", "describe_difference"]

_NOT_IDENTITY = {"files", "key", "seconds", "provenance", "weights_source", "online", "spec"}


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
        backbone: name; ``weights`` is ``random`` or ``pretrained``, ``weights_source`` where they are from.
        levels, scales, interpolation, padding, rotations, pooled, image, input_size, mean, std: see ``Recipe``.
        shapes: ``(C, H, W)`` of each level.
        weights_sha256: hash of the extractor's state.
        transform, dtype: how images become inputs, and the number format of the cache.
        view: ``train``, ``test``, or the name of a view of pseudo-anomalies.
        images_sha256: hash of the ``n_images`` images and their order.
        key: hash of all that determines the values.
        seconds: of the extraction.
        spec: what the stage was told, None where no stage made it.
    """

    backbone: str
    weights: str
    weights_source: str
    levels: list[int]
    scales: list[int]
    interpolation: str
    padding: str
    rotations: int
    pooled: bool
    image: bool
    shapes: list[tuple[int, int, int]]
    input_size: int
    mean: list[float]
    std: list[float]
    weights_sha256: str
    transform: str
    dtype: str
    view: str
    n_images: int
    images_sha256: str
    synthesis: SynthesisMeta | None = None
    online: LiveSource | None = None
    key: str = ""
    seconds: float = 0.0
    provenance: dict[str, Any] = {}
    spec: ExtractSpec | None = None
    files: list[CachedFile] = []

    @property
    def map_size(self) -> tuple[int, int]:
        """Height and width of the input, which maps have."""
        return self.input_size, self.input_size

    @property
    def views(self) -> int:
        """Rotated views or pseudo-anomalies of each image that are cached; 0 for the image alone."""
        return self.rotations or (self.synthesis.views if self.synthesis else 0)


def cache_key(meta: FeatureMeta) -> str:
    """Hash over all that determines the cached values."""
    identity = meta.model_dump(mode="json", exclude=_NOT_IDENTITY, exclude_none=True)
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def describe_difference(ours: FeatureMeta, theirs: FeatureMeta, ignore: Collection[str] = ()) -> str:
    """Names the entries in which two descriptions differ, with both values; empty where they agree."""
    names = sorted(type(ours).model_fields.keys() - {*_NOT_IDENTITY, *ignore})
    different = [name for name in names if getattr(ours, name) != getattr(theirs, name)]
    return ", ".join(f"{name} ({getattr(ours, name)!r} and {getattr(theirs, name)!r})" for name in different)

"""Plan for datasets that may not be on disk yet, with all official categories and numbers of images.

It estimates what an experiment needs before anything runs.
"""

from pathlib import Path
from typing import Literal, NamedTuple

from nfbench.config import BackboneConfig, DatasetConfig
from nfbench.core.errors import NfbenchError
from nfbench.datasets._base import Counts, Dataset, find_dataset
from nfbench.datasets._manifest import read_manifest, select_subset
from nfbench.datasets._sources import read_sources
from nfbench.plan.catalogue import Catalogue
from nfbench.plan.memory import SIDE, largest
from nfbench.plan.plan import Plan
from nfbench.plan.specs import ExtractSpec, PrepareSpec

__all__ = ["ASSUMED", "Images", "SupposedPlan", "count_images", "images_of_view"]

ASSUMED = Counts(400, 50, 100)
"""Assumed numbers of images of a category that is not on disk and has no official counts."""

_ASSUMED = {
    ("shanghaitech", "all"): Counts(274515, 25793, 17090),  # frames, according to papers; sources disagree
    ("lgg_mri", "all"): Counts(1789, 767, 412),  # from the dataset's page, 70 % of the patients for training
}

_SIDE = 1024
"""Assumed height and width of images, in pixels, before they are read."""


class _SupposedCatalogue(Catalogue):
    """Catalogue in which a dataset that is not on disk has all its official categories."""

    def is_absent(self, dataset: str) -> bool:
        """Whether a dataset with official categories is not on disk."""
        if self.bench.dataset(dataset).union or self.is_miniature(dataset) or not self.official(dataset):
            return False
        return self.reader(dataset).name is not None and not self.root(dataset).is_dir()

    def _find(self, dataset: str) -> list[str]:
        if not self.is_absent(dataset):
            return super()._find(dataset)
        self._check_asked(dataset)
        return list(self.official(dataset))


class SupposedPlan(Plan):
    """Plan that includes the jobs of datasets that are not on disk."""

    catalogue: _SupposedCatalogue

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan.bench)
        self.catalogue = _SupposedCatalogue(plan.bench)

    def _state_of_files(self, dataset: str, category: str) -> str:
        return "" if self.catalogue.is_absent(dataset) else super()._state_of_files(dataset, category)


class Images(NamedTuple):
    """Numbers of images of a category.

    Attributes:
        counts: numbers by split and label.
        validation: number of validation images.
        pixels: total number of pixels of all test images.
        source: source of the numbers: manifest, folder, official counts, or assumption.
        largest: height and width that all images fit in; assumed without a manifest.
    """

    counts: Counts
    validation: int
    pixels: int
    source: Literal["manifest", "folder", "official", "assumed"]
    largest: tuple[int, int] = (SIDE, SIDE)

    def tiles(self, backbone: BackboneConfig) -> int:
        """Number of tiles of the largest image; 1 for a backbone that does not cut images."""
        return backbone.tiles.count(*self.largest) if backbone.tiles else 1

    @property
    def test(self) -> int:
        """Number of test images."""
        return self.counts.test_normal + self.counts.test_anomalous


def count_images(spec: PrepareSpec) -> Images:
    """Counts the images of a category by manifest, else folder, else official counts, else ``ASSUMED``."""
    try:
        entries = read_manifest(spec.manifest)
        pixels = sum(entry.height * entry.width for entry in entries if entry.split == "test")
        counted = _counted([(entry.split, bool(entry.label)) for entry in entries])
        return Images(*counted, pixels, "manifest", largest(entries))
    except NfbenchError:
        pass
    found, validation, source = _without_manifest(spec)
    return Images(found, validation, SIDE**2 * (found.test_normal + found.test_anomalous), source)


def images_of_view(spec: ExtractSpec, images: Images) -> int:
    """Returns the number of images of a view, or of their tiles, including all pseudo-anomalies of each image."""
    if spec.anomalies and spec.anomalies.generator:
        return spec.anomalies.real if spec.anomalies.needs_real else images.counts.train
    count = images.counts.train + images.validation if spec.view == "train" else images.test
    return count * images.tiles(spec.backbone)


def _without_manifest(spec: PrepareSpec) -> tuple[Counts, int, Literal["folder", "official", "assumed"]]:
    """Returns counts, the number of validation images if the folder is readable, and the source of both."""
    name, root = spec.dataset.dataset, Path(spec.root)
    reader, official = find_dataset(name), read_sources().get(name)
    has_videos = type(reader).sampled is not Dataset.sampled  # listing them would decode frames
    if root.is_dir() and not has_videos and not reader.is_unmade(root, spec.category):
        try:
            samples = select_subset(reader.samples(root, spec.category), spec.dataset)
            return *_counted([(sample.split, sample.anomalous) for sample in samples]), "folder"
        except (NfbenchError, OSError):
            pass
    if official and spec.category in official.counts:
        return _limited(official.counts[spec.category], spec.dataset), 0, "official"
    frames = _ASSUMED.get((name, spec.category), ASSUMED)
    return _limited(Counts(*(count // spec.dataset.stride for count in frames)), spec.dataset), 0, "assumed"


def _counted(found: list[tuple[str, bool]]) -> tuple[Counts, int]:
    """Returns the counts of listed images, and the number of validation images."""
    counts = Counts(*(found.count(kind) for kind in (("train", False), ("test", False), ("test", True))))
    return counts, found.count(("validation", False))


def _limited(counts: Counts, dataset: DatasetConfig) -> Counts:
    """Returns the counts of a subset."""
    limits = (dataset.max_train, dataset.max_test_normal, dataset.max_test_anomalous)
    return Counts(*(min(count, limit or count) for count, limit in zip(counts, limits, strict=True)))

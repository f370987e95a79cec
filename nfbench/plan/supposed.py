"""The plan of experiments whose datasets may not be on disk yet: all official categories then, and how many images.

Used before anything runs, to say what it would take.
"""

from pathlib import Path
from typing import Literal, NamedTuple

from nfbench.config import DatasetConfig
from nfbench.core.errors import NfbenchError
from nfbench.datasets._base import Counts, Dataset, find_dataset
from nfbench.datasets._manifest import read_manifest, select_subset
from nfbench.datasets._sources import read_sources
from nfbench.plan.catalogue import Catalogue
from nfbench.plan.plan import Plan
from nfbench.plan.specs import ExtractSpec, PrepareSpec

__all__ = ["ASSUMED", "Images", "SupposedPlan", "count_images", "images_of_view"]

ASSUMED = Counts(400, 50, 100)
"""Images of a category that is not on disk and whose official number is not known."""

_ASSUMED = {
    ("shanghaitech", "all"): Counts(274515, 25793, 17090),  # frames, as papers say; sources disagree
    ("lgg_mri", "all"): Counts(1789, 767, 412),  # the dataset's page, 70 % of the patients for training
}

_SIDE = 1024
"""Height and width of images that were not measured yet, in pixels."""


class _SupposedCatalogue(Catalogue):
    """A catalogue in which datasets that are not on disk have all their official categories."""

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
    """A plan that also has the jobs of datasets that are not on disk."""

    catalogue: _SupposedCatalogue

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan.bench)
        self.catalogue = _SupposedCatalogue(plan.bench)

    def _state_of_files(self, dataset: str, category: str) -> str:
        return "" if self.catalogue.is_absent(dataset) else super()._state_of_files(dataset, category)


class Images(NamedTuple):
    """Images of a category.

    Attributes:
        counts: by split and label.
        validation: number of validation images.
        pixels: of all test images.
        source: how they were counted: by the manifest, in the folder, officially, or not at all.
    """

    counts: Counts
    validation: int
    pixels: int
    source: Literal["manifest", "folder", "official", "assumed"]

    @property
    def test(self) -> int:
        """Number of test images."""
        return self.counts.test_normal + self.counts.test_anomalous


def count_images(spec: PrepareSpec) -> Images:
    """Images of a category: those of its manifest, else of its folder, else the official number, else ``ASSUMED``."""
    try:
        entries = read_manifest(spec.manifest)
        pixels = sum(entry.height * entry.width for entry in entries if entry.split == "test")
        return Images(*_counted([(entry.split, bool(entry.label)) for entry in entries]), pixels, "manifest")
    except NfbenchError:
        pass
    found, validation, source = _without_manifest(spec)
    return Images(found, validation, _SIDE**2 * (found.test_normal + found.test_anomalous), source)


def images_of_view(spec: ExtractSpec, images: Images) -> int:
    """Number of images that a view has, each in all its variants."""
    if spec.anomalies and spec.anomalies.generator:
        return spec.anomalies.real if spec.anomalies.needs_real else images.counts.train
    return images.counts.train + images.validation if spec.view == "train" else images.test


def _without_manifest(spec: PrepareSpec) -> tuple[Counts, int, Literal["folder", "official", "assumed"]]:
    """Counts, the number of validation images where the folder tells it, and where they are from."""
    name, root = spec.dataset.dataset, Path(spec.root)
    reader, official = find_dataset(name), read_sources().get(name)
    has_videos = type(reader).sampled is not Dataset.sampled  # whose frames would be decoded
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
    """Official counts, and the number of validation images."""
    counts = Counts(*(found.count(kind) for kind in (("train", False), ("test", False), ("test", True))))
    return counts, found.count(("validation", False))


def _limited(counts: Counts, dataset: DatasetConfig) -> Counts:
    """The number of images of a subset."""
    limits = (dataset.max_train, dataset.max_test_normal, dataset.max_test_anomalous)
    return Counts(*(min(count, limit or count) for count, limit in zip(counts, limits, strict=True)))

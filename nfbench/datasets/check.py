"""A dataset on disk held against what is published of it, and against itself; all that is wrong is listed."""

from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from nfbench.core.errors import NfbenchError
from nfbench.core.progress import progress
from nfbench.core.provenance import file_sha256
from nfbench.datasets.base import Counts, Dataset, Sample
from nfbench.datasets.manifest import decode_image, read_mask
from nfbench.datasets.sources import Source

__all__ = ["CategoryReport", "Report", "check_dataset"]


@dataclass
class CategoryReport:
    """What was found of one category.

    Attributes:
        train, test_normal, test_anomalous: number of images.
        masks: number of masks.
        official: what was published; None where nothing was.
        sizes: widths and heights of the images.
        broken: what is wrong with an image or its mask, or with the category.
        duplicates: groups of images that are equal to the last byte.
        empty_masks: masks that mark no pixel.
    """

    train: int = 0
    test_normal: int = 0
    test_anomalous: int = 0
    masks: int = 0
    official: Counts | None = None
    sizes: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    duplicates: list[list[str]] = field(default_factory=list)
    empty_masks: list[str] = field(default_factory=list)

    @property
    def counts(self) -> Counts:
        """Number of images."""
        return Counts(self.train, self.test_normal, self.test_anomalous)


@dataclass
class Report:
    """What was found of a dataset.

    Attributes:
        categories: by category.
        missing: official categories that are not there.
        facts: other numbers: what was found and what was published.
    """

    categories: dict[str, CategoryReport]
    missing: list[str]
    facts: dict[str, tuple[int, int | None]]

    @property
    def sound(self) -> bool:
        """Whether everything can be read; counts that differ from the official ones are no fault of a file."""
        return not any(category.broken for category in self.categories.values())

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        found = asdict(self)
        for name, category in self.categories.items():
            found["categories"][name]["official"] = category.official and category.official._asdict()
        return found


def check_dataset(dataset: Dataset, root: Path, source: Source | None = None, stride: int = 1) -> Report:
    """Reads every image and mask.

    Args:
        dataset: reader.
        root: folder of its categories.
        source: what is published of it.
        stride: of videos, every n-th frame; official counts are of all frames, and not compared otherwise.

    Raises:
        NfbenchError: there is no category at all.
    """
    published = source.counts if source and stride == 1 else {}
    available = dataset.available(root)
    reports = {name: _check_category(dataset, root, name, stride) for name in available}
    for name, report in reports.items():
        report.official = published.get(name)
    found = dataset.facts(root) if all(not report.broken for report in reports.values()) else {}
    facts = {name: (value, source.facts.get(name) if source else None) for name, value in found.items()}
    return Report(reports, [name for name in dataset.categories if name not in available], facts)


def _check_category(dataset: Dataset, root: Path, category: str, stride: int) -> CategoryReport:
    report = CategoryReport()
    try:
        samples = dataset.sampled(root, category, stride)
    except NfbenchError as error:
        report.broken.append(str(error))
        return report
    report.train = sum(sample.split == "train" for sample in samples)
    report.test_anomalous = sum(sample.anomalous for sample in samples)
    report.test_normal = len(samples) - report.train - report.test_anomalous
    report.masks = sum(sample.mask is not None for sample in samples)
    _check_files(samples, report)
    return report


def _check_files(samples: Sequence[Sample], report: CategoryReport) -> None:
    same: dict[str, list[str]] = defaultdict(list)
    sizes = set()
    with ThreadPoolExecutor() as pool:
        found = progress(pool.map(_check_sample, samples), total=len(samples), label="check images")
        for sample, (size, digest, broken, empty) in zip(samples, found, strict=True):
            same[digest].append(str(sample.image))
            sizes |= {size} - {""}
            report.broken += broken
            if empty:
                report.empty_masks.append(str(sample.mask))
    report.sizes = sorted(sizes)
    report.duplicates = [paths for digest, paths in same.items() if digest and len(paths) > 1]


def _check_sample(sample: Sample) -> tuple[str, str, list[str], bool]:
    """Size, hash, what is wrong, and whether the mask marks no pixel."""
    try:
        width, height = decode_image(sample.image).size
        size, digest = f"{width}x{height}", file_sha256(sample.image)
    except NfbenchError as error:
        return "", "", [str(error)], False
    if sample.mask is None:
        return size, digest, [], False
    try:
        mask = read_mask(sample.mask)
    except NfbenchError as error:
        return size, digest, [str(error)], False
    if mask.shape != (height, width):
        wrong = f"mask {sample.mask} is {mask.shape[1]} x {mask.shape[0]} pixels, its image is {width} x {height}"
        return size, digest, [wrong], False
    return size, digest, [], not mask.any()

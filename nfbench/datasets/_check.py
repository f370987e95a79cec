"""Check of a dataset on disk: its files, its consistency, and its published counts. Lists all faults."""

import tempfile
from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from nfbench.core.errors import NfbenchError
from nfbench.core.progress import progress
from nfbench.datasets._base import Counts, Dataset, FaultyCategory, Sample
from nfbench.datasets._channels import open_mask
from nfbench.datasets._images import open_picture
from nfbench.datasets._listing import group_left_out
from nfbench.datasets._manifest import mask_fault
from nfbench.datasets._sources import Source

__all__ = ["CategoryReport", "Pixels", "Report", "check_dataset"]


@dataclass
class Pixels:
    """Storage formats and value ranges of the images and masks of a category.

    Attributes:
        modes, mask_modes: numbers of images and of masks by storage format.
        values, mask_values: smallest and largest number of distinct values in an image and in a mask.
        defective: smallest, mean and largest share of defective pixels in a mask.
        full_masks: masks that mark every pixel.
        shaded_masks: masks with more distinct values than class numbers would have; all values above 0 count as
            defective.
    """

    modes: dict[str, int] = field(default_factory=dict)
    mask_modes: dict[str, int] = field(default_factory=dict)
    values: list[int] = field(default_factory=list)
    mask_values: list[int] = field(default_factory=list)
    defective: list[float] = field(default_factory=list)
    full_masks: list[str] = field(default_factory=list)
    shaded_masks: list[str] = field(default_factory=list)


@dataclass
class CategoryReport:
    """Findings about one category.

    Attributes:
        train, test_normal, test_anomalous, validation, unlabelled: numbers of images.
        masks: number of masks.
        official: published numbers; None if there are none.
        sizes: widths and heights of the upright images.
        broken: faults of images, of masks, and of the category.
        duplicates: groups of byte-identical images.
        empty_masks: masks that mark no pixel.
        pixels: storage formats and value ranges.
    """

    train: int = 0
    test_normal: int = 0
    test_anomalous: int = 0
    validation: int = 0
    unlabelled: int = 0
    masks: int = 0
    official: Counts | None = None
    sizes: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    duplicates: list[list[str]] = field(default_factory=list)
    empty_masks: list[str] = field(default_factory=list)
    pixels: Pixels = field(default_factory=Pixels)

    @property
    def counts(self) -> Counts:
        """Numbers of images to compare with the official counts."""
        return Counts(self.train, self.test_normal, self.test_anomalous)


@dataclass
class Report:
    """Findings about a dataset.

    Attributes:
        categories: findings by category.
        missing: official categories that are missing.
        facts: other numbers, as found and as published.
        left_out: files below the root that are not read, one line per folder and ending.
    """

    categories: dict[str, CategoryReport]
    missing: list[str]
    facts: dict[str, tuple[int, int | None]]
    left_out: list[str]

    @property
    def sound(self) -> bool:
        """Whether everything can be read. Counts that differ from the official ones do not matter here."""
        return not any(category.broken for category in self.categories.values())

    def to_dict(self) -> dict[str, Any]:
        """Returns the report for JSON, with ``pixels`` by category."""
        found = asdict(self)
        for name, category in self.categories.items():
            found["categories"][name]["official"] = category.official and category.official._asdict()
        return {**found, "pixels": {name: found["categories"][name].pop("pixels") for name in self.categories}}


@dataclass
class _Checked:
    """Findings about one sample: sizes, hashes, storage formats and faults."""

    size: str = ""
    sha256: str = ""
    stored: str = ""
    values: int = 0
    mask_stored: str = ""
    mask_values: int = 0
    defective: float = 0.0
    shaded: bool = False
    broken: list[str] = field(default_factory=list)


def check_dataset(dataset: Dataset, root: Path, source: Source | None = None, stride: int = 1) -> Report:
    """Reads every image and mask; writes nothing below ``root``.

    Args:
        dataset: reader.
        root: folder of its categories.
        source: published facts about the dataset.
        stride: step between frames of videos. Official counts refer to all frames and are compared only for stride 1.

    Raises:
        NfbenchError: there is no category at all.
    """
    published = source.counts if source and stride == 1 else {}
    available = dataset.available(root)
    reports, used = {}, set()
    with tempfile.TemporaryDirectory(prefix="nfbench-check-") as work:
        for name in available:
            place = Path(work) if dataset.is_unmade(root, name) else root
            reports[name], samples = _check_category(dataset, place, name, stride, Path(work))
            reports[name].official = published.get(name)
            used |= _used(dataset, root, name, samples)
    sound = all(not report.broken for report in reports.values())
    found = dataset.facts(root) if sound else {}
    facts = {name: (value, source.facts.get(name) if source else None) for name, value in found.items()}
    missing = [name for name in dataset.categories if name not in available]
    return Report(reports, missing, facts, group_left_out(root, used))


def _used(dataset: Dataset, root: Path, category: str, samples: Sequence[Sample]) -> set[Path]:
    """Returns the files that determine a category."""
    used = {sample.image for sample in samples} | {sample.mask for sample in samples if sample.mask}
    try:
        return used | set(dataset.side_files(root, category))
    except NfbenchError:  # reported as faults elsewhere
        return used


def _check_category(
    dataset: Dataset, root: Path, category: str, stride: int, work: Path
) -> tuple[CategoryReport, list[Sample]]:
    report = CategoryReport()
    try:
        samples = dataset.sampled(root, category, stride, work)
    except FaultyCategory as error:
        samples = error.samples
        report.broken += error.faults
    except NfbenchError as error:
        samples = []
        report.broken.append(str(error))
    report.train = sum(sample.split == "train" for sample in samples)
    report.test_anomalous = sum(sample.anomalous for sample in samples)
    report.validation = sum(sample.split == "validation" for sample in samples)
    report.unlabelled = sum(sample.split == "unlabelled" for sample in samples)
    report.test_normal = sum(sample.split == "test" and not sample.anomalous for sample in samples)
    report.masks = sum(sample.mask is not None for sample in samples)
    for split in dataset.splits:
        if not any(sample.split == split for sample in samples) and not report.broken:
            report.broken.append(f"the split '{split}' of '{category}' is empty")
    _check_files(samples, report)
    return report, samples


def _check_files(samples: Sequence[Sample], report: CategoryReport) -> None:
    with ThreadPoolExecutor() as pool:
        checked = list(progress(pool.map(_check_sample, samples), total=len(samples), label="check images"))
    same: dict[str, list[str]] = defaultdict(list)
    for sample, found in zip(samples, checked, strict=True):
        report.broken += found.broken
        same[found.sha256].append(str(sample.image))
    report.duplicates = [paths for digest, paths in same.items() if digest and len(paths) > 1]
    report.sizes = sorted({found.size for found in checked} - {""})
    marked = [(str(sample.mask), found) for sample, found in zip(samples, checked, strict=True) if found.mask_stored]
    report.empty_masks = [path for path, found in marked if found.defective == 0]
    shares = [found.defective for _, found in marked]
    report.pixels = Pixels(
        modes=dict(Counter(found.stored for found in checked if found.stored)),
        mask_modes=dict(Counter(found.mask_stored for _, found in marked)),
        values=_range([found.values for found in checked if found.stored]),
        mask_values=_range([found.mask_values for _, found in marked]),
        defective=[min(shares), sum(shares) / len(shares), max(shares)] if shares else [],
        full_masks=[path for path, found in marked if found.defective == 1],
        shaded_masks=[path for path, found in marked if found.shaded],
    )


def _check_sample(sample: Sample) -> _Checked:
    found = _Checked()
    size = None
    try:
        image = open_picture(sample.image)
        image.to_image()
        size = image.size
        found.size, found.sha256 = f"{size[0]}x{size[1]}", image.sha256
        found.stored, found.values = image.stored, image.n_values
    except NfbenchError as error:
        found.broken.append(str(error))
    if sample.mask is not None:
        try:
            _check_mask(sample.mask, size, found)
        except NfbenchError as error:
            found.broken.append(str(error))
    return found


def _check_mask(path: Path, size: tuple[int, int] | None, found: _Checked) -> None:
    stored = open_mask(path)
    if size and (wrong := mask_fault(path, stored.mask.shape, size)):
        raise NfbenchError(wrong)
    found.mask_stored = stored.pictures[0].stored
    found.mask_values = max(picture.n_values for picture in stored.pictures)
    found.defective, found.shaded = float(stored.mask.mean()), stored.is_shaded


def _range(values: list[int]) -> list[int]:
    return [min(values), max(values)] if values else []

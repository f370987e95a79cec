"""Base class of dataset readers: the official split as a list of samples, and facts about the dataset."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

from nfbench.core.errors import NfbenchError
from nfbench.core.registry import exported
from nfbench.datasets._listing import files_below, list_images

__all__ = ["Counts", "Dataset", "Faults", "FaultyCategory", "Sample", "find_dataset"]

PACKAGE = "nfbench.datasets"


@dataclass(frozen=True)
class Sample:
    """One image of a dataset.

    Attributes:
        split: ``train``, ``validation``, ``test`` or ``unlabelled``. Training and validation images are normal.
            Validation images are used for thresholds, never for training. Unlabelled images are test images of a
            benchmark that keeps their labels: they are scored for a submission and are in no metric.
        defect: defect type; ``good`` for none; for unlabelled images the name of their set.
        image: path of the image.
        mask: path of the mask, or of a folder with one mask per defect; None for normal images and for datasets
            without masks.
    """

    split: Literal["train", "validation", "test", "unlabelled"]
    defect: str
    image: Path
    mask: Path | None = None

    @property
    def anomalous(self) -> bool:
        """Whether the image has a defect that is known."""
        return self.defect != "good" and self.split != "unlabelled"


class Counts(NamedTuple):
    """Number of images of a category: normal training images, normal and anomalous test images."""

    train: int
    test_normal: int
    test_anomalous: int


class FaultyCategory(NfbenchError):
    """Images of a category are missing or inconsistent.

    Attributes:
        faults: all faults, one line each.
        samples: the valid samples.
    """

    def __init__(self, faults: Sequence[str], samples: Sequence[Sample]) -> None:
        others = f" (and {len(faults) - 1} more faults; 'nfbench data check' lists them)" if len(faults) > 1 else ""
        super().__init__(f"{faults[0]}{others}")
        self.faults, self.samples = list(faults), list(samples)


@dataclass
class Faults:
    """Collects the faults of a category while its reader continues, so that all are reported at once.

    Attributes:
        found: the faults, one line each.
    """

    found: list[str] = field(default_factory=list)

    def add(self, fault: object) -> None:
        """Adds a message or an error."""
        self.found.append(str(fault))

    def images(self, folder: Path) -> list[Path]:
        """Returns the images directly in a folder, sorted; adds a fault if it is missing or has none."""
        try:
            return list_images(folder)
        except NfbenchError as error:
            self.add(error)
            return []

    def settle(self, samples: Iterable[Sample]) -> list[Sample]:
        """Returns the samples, or raises the collected faults.

        Raises:
            FaultyCategory: there are faults; the error has all faults and the samples.
        """
        if self.found:
            raise FaultyCategory(self.found, list(samples))
        return list(samples)


class Dataset(ABC):
    """Base class of dataset readers. A reader defines ``available`` and ``samples``; other methods have defaults.

    Class attributes:
        name: name for 'nfbench data fetch'; None if the dataset cannot be fetched.
        title: name in tables.
        licence: licence of the images.
        citation: paper or package to cite.
        source: where to get the dataset, or how it is generated.
        categories: all official categories; empty if each folder is a category.
        has_masks: whether anomalous test images have pixel masks.
        needs_tests: whether a category without normal or without anomalous test images is an error.
        has_miniature: whether ``miniature`` can generate a tiny copy.
    """

    name: ClassVar[str | None] = None
    title: ClassVar[str]
    licence: ClassVar[str]
    citation: ClassVar[str]
    source: ClassVar[str]
    categories: ClassVar[tuple[str, ...]] = ()
    has_masks: ClassVar[bool] = True
    needs_tests: ClassVar[bool] = True
    has_miniature: ClassVar[bool] = False

    @abstractmethod
    def available(self, root: Path) -> list[str]:
        """Lists the categories that can be read from ``root``, sorted.

        Raises:
            NfbenchError: there is none; the message says what was expected and where.
        """

    @abstractmethod
    def samples(self, root: Path, category: str) -> list[Sample]:
        """Lists the official split of a category, sorted by path. Generated datasets create missing images first.

        Raises:
            NfbenchError: a folder, image or mask is missing. Readers collect faults in ``Faults`` and raise
                ``FaultyCategory`` at the end, so that 'nfbench data check' lists all of them.
        """

    @property
    def splits(self) -> tuple[str, ...]:
        """Splits that must not be empty."""
        return ("train", "test") if self.needs_tests else ("train",)

    def sampled(self, root: Path, category: str, stride: int, work: Path | None = None) -> list[Sample]:
        """Lists the official split with every ``stride``-th frame of each video; video datasets override it.

        Args:
            root: folder with the categories.
            category: name of the category.
            stride: step between frames.
            work: folder for derived images, such as frames of videos; by default below ``root``.

        Raises:
            NfbenchError: the stride is above 1, but the dataset has no videos.
        """
        if stride != 1:
            raise NfbenchError(f"dataset '{self.title}' has no videos, so 'stride: {stride}' does not apply; remove it")
        return self.samples(root, category)

    def files(self, root: Path, category: str) -> list[Path]:
        """Lists all files that determine the samples of a category, with tables of splits and labels.

        Generated datasets have none. Default: all files below ``root/category``, or below ``root`` if there is no such
        folder.
        """
        folder = root / category
        return files_below(folder if folder.is_dir() else root)

    def side_files(self, root: Path, category: str) -> list[Path]:
        """Lists files that are read in addition to images and masks, such as tables of splits; none by default."""
        return []

    def is_unmade(self, root: Path, category: str) -> bool:
        """Whether a generated dataset still has to create images of a category below ``root``."""
        return False

    def facts(self, root: Path) -> dict[str, int]:
        """Counts things below ``root`` to compare with published numbers, such as patients; none by default."""
        return {}

    @property
    def miniature_categories(self) -> tuple[str, ...]:
        """Categories of the tiny copy that ``miniature`` generates."""
        return self.categories

    def miniature(self, root: Path) -> dict[str, Counts]:
        """Generates a tiny copy below ``root`` in the exact layout, for tests and trial runs; keeps existing files.

        Returns:
            Numbers of images by category.

        Raises:
            NfbenchError: this dataset has no miniature (see ``has_miniature``).
        """
        raise NfbenchError(f"dataset '{self.title}' has no miniature")


def find_dataset(name: str) -> Dataset:
    """Returns the dataset reader of this name; the error for an unknown name suggests the nearest one."""
    return exported(PACKAGE, name, "DATASET", instance_of=Dataset)

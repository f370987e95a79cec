"""What a dataset is: its official split as a list of samples, and what to know before using it."""

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
        split: ``train`` or ``validation``, which have normal images only, or ``test``. A model sees no validation
            image: thresholds are taken from them.
        defect: kind of defect, ``good`` for none.
        image: path of the image.
        mask: path of the mask, which shows where the image is defective; empty for normal images and without masks.
    """

    split: Literal["train", "validation", "test"]
    defect: str
    image: Path
    mask: Path | None = None

    @property
    def anomalous(self) -> bool:
        """Whether the image has a defect."""
        return self.defect != "good"


class Counts(NamedTuple):
    """How many images a category has: normal ones for training, normal and anomalous ones for testing."""

    train: int
    test_normal: int
    test_anomalous: int


class FaultyCategory(NfbenchError):
    """Images of a category are missing or contradict each other.

    Attributes:
        faults: all that is wrong, a line each.
        samples: what was found all the same.
    """

    def __init__(self, faults: Sequence[str], samples: Sequence[Sample]) -> None:
        others = f" (and {len(faults) - 1} more faults; 'nfbench data check' lists them)" if len(faults) > 1 else ""
        super().__init__(f"{faults[0]}{others}")
        self.faults, self.samples = list(faults), list(samples)


@dataclass
class Faults:
    """Collects what is wrong with a category while a reader goes on, so that all of it is named.

    Attributes:
        found: the faults, a line each.
    """

    found: list[str] = field(default_factory=list)

    def add(self, fault: object) -> None:
        """Notes a message or an error."""
        self.found.append(str(fault))

    def images(self, folder: Path) -> list[Path]:
        """Images directly in a folder, sorted; notes a folder that is missing or has none."""
        try:
            return list_images(folder)
        except NfbenchError as error:
            self.add(error)
            return []

    def settle(self, samples: Iterable[Sample]) -> list[Sample]:
        """The samples that were found.

        Raises:
            FaultyCategory: something is wrong; has all faults and the samples.
        """
        if self.found:
            raise FaultyCategory(self.found, list(samples))
        return list(samples)


class Dataset(ABC):
    """A dataset. Class attributes say what a user must know; two methods find the images, the others may be overridden.

    Class attributes:
        name: name of its source for 'nfbench data fetch'; None where there is nothing to fetch.
        title: name in tables.
        licence: licence of the images.
        citation: paper or package to cite.
        source: where to get it, or how it is made.
        categories: all official categories; empty where every folder is a category.
        has_masks: whether anomalous test images have pixel masks.
        needs_tests: whether a category without normal or without anomalous test images is an error.
        has_miniature: whether ``miniature`` makes a tiny copy.
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
        """Categories that can be used with ``root``, sorted.

        Raises:
            NfbenchError: there is none; says what was looked for and where.
        """

    @abstractmethod
    def samples(self, root: Path, category: str) -> list[Sample]:
        """The official split of a category, sorted by path. Makes the images first where they are generated.

        Raises:
            NfbenchError: a folder, image or mask is missing; names it. Readers raise ``FaultyCategory`` at the end
                (``Faults``), so that 'nfbench data check' lists all faults.
        """

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that may not be empty."""
        return ("train", "test") if self.needs_tests else ("train",)

    def sampled(self, root: Path, category: str, stride: int, work: Path | None = None) -> list[Sample]:
        """The official split with every ``stride``-th frame of each video; datasets of videos override it.

        Args:
            root: folder of the categories.
            category: name of the category.
            stride: of videos, every n-th frame.
            work: folder for images made from what is published, such as frames of videos; by default below ``root``.

        Raises:
            NfbenchError: a stride above 1 is asked of a dataset that has no videos.
        """
        if stride != 1:
            raise NfbenchError(f"dataset '{self.title}' has no videos: 'stride: {stride}' does not apply; leave it out")
        return self.samples(root, category)

    def files(self, root: Path, category: str) -> list[Path]:
        """All files that decide the samples of a category, also those of splits and labels; none where it makes them.

        By default what lies below ``root/category``, or where there is no such folder, below ``root``.
        """
        folder = root / category
        return files_below(folder if folder.is_dir() else root)

    def side_files(self, root: Path, category: str) -> list[Path]:
        """Files that are read besides the images and masks of samples, such as tables of splits; none by default."""
        return []

    def is_unmade(self, root: Path, category: str) -> bool:
        """Whether images of a category are still to be made below ``root``; only generated datasets make any."""
        return False

    def facts(self, root: Path) -> dict[str, int]:
        """Numbers of what is below ``root`` to hold against published ones, such as of patients; none by default."""
        return {}

    @property
    def miniature_categories(self) -> tuple[str, ...]:
        """Categories of the tiny copy that ``miniature`` makes."""
        return self.categories

    def miniature(self, root: Path) -> dict[str, Counts]:
        """Makes a tiny copy below ``root`` in the exact layout, for tests and trial runs; what is there stays.

        Returns:
            Number of images by category.

        Raises:
            NfbenchError: there is no such copy of this dataset (``has_miniature``).
        """
        raise NfbenchError(f"dataset '{self.title}' has no miniature")


def find_dataset(name: str) -> Dataset:
    """The dataset reader of this name; an error names the nearest one."""
    return exported(PACKAGE, name, "DATASET", instance_of=Dataset)

"""What a dataset is: its official split as a list of samples, and what to know before using it."""

import os
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

from nfbench.core.errors import NfbenchError
from nfbench.core.registry import plugin

__all__ = ["Counts", "Dataset", "Sample", "files_below", "find_dataset"]

PACKAGE = "nfbench.datasets"


@dataclass(frozen=True)
class Sample:
    """One image of a dataset.

    Attributes:
        split: ``train`` (normal images only) or ``test``.
        defect: kind of defect, ``good`` for none.
        image: path of the image.
        mask: path of the mask, non-zero where the image is defective; empty for normal images and without masks.
    """

    split: Literal["train", "test"]
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


class Dataset(ABC):
    """A dataset. Class attributes say what a user must know; two methods find the images, three more may be overridden.

    Class attributes:
        name: name of its source for 'nfbench data fetch'; None where there is nothing to fetch.
        title: name in tables.
        licence: licence of the images.
        citation: paper or package to cite.
        source: where to get it, or how it is made.
        categories: all official categories; empty where they are whatever folders there are.
        has_masks: whether anomalous test images have pixel masks.
        has_miniature: whether ``miniature`` makes a tiny copy.
    """

    name: ClassVar[str | None] = None
    title: ClassVar[str]
    licence: ClassVar[str]
    citation: ClassVar[str]
    source: ClassVar[str]
    categories: ClassVar[tuple[str, ...]] = ()
    has_masks: ClassVar[bool] = True
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
            NfbenchError: a folder, image or mask is missing; names it.
        """

    def sampled(self, root: Path, category: str, stride: int) -> list[Sample]:
        """The official split with every ``stride``-th frame of each video; datasets of videos override it.

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

    def facts(self, root: Path) -> dict[str, int]:
        """Numbers of what is below ``root`` to hold against published ones, such as of patients; none by default."""
        return {}

    def miniature(self, root: Path) -> dict[str, Counts]:
        """Makes a tiny copy below ``root`` in the exact layout, for tests and trial runs; what is there stays.

        Returns:
            Number of images by category.

        Raises:
            NfbenchError: there is no such copy of this dataset (``has_miniature``).
        """
        raise NfbenchError(f"dataset '{self.title}' has no miniature")


def files_below(folder: Path) -> list[Path]:
    """All files in a folder and its folders, sorted; hidden ones are left out."""
    found = [Path(parent, name) for parent, _, names in os.walk(folder) for name in names if not name.startswith(".")]
    return sorted(path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts))


def find_dataset(name: str) -> Dataset:
    """The dataset reader of this name; an error names the nearest one."""
    return plugin(PACKAGE, name).DATASET

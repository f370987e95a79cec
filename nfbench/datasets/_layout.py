"""MVTec AD's folder layout, which many datasets share.

<category>/train/good/*.png
<category>/validation/good/*.png    optional
<category>/test/good/*.png
<category>/test/<defect>/<stem>.png
<category>/ground_truth/<defect>/<stem>_mask.png
"""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from nfbench.core.errors import NfbenchError, valid_utf8
from nfbench.datasets._base import Dataset, Faults, Sample
from nfbench.datasets._images import IMAGE_ENDINGS
from nfbench.datasets._listing import files_in, folders_in

__all__ = [
    "LayoutDataset",
    "is_misspelled",
    "known_categories",
    "masked_samples",
    "require_root",
    "validation_samples",
]


class LayoutDataset(Dataset):
    """A dataset in MVTec AD's layout.

    Class attributes:
        normal: name of the folders of normal images.
        masks_required: whether a category without a ``ground_truth`` folder is an error. If the folder exists, each
            anomalous image needs a mask in any case.
    """

    normal: ClassVar[str] = "good"
    masks_required: ClassVar[bool] = True

    def available(self, root: Path) -> list[str]:
        """Lists folders below ``root`` that have a folder ``train/<normal>``, official ones in their order."""
        require_root(root, self.name)
        folders = folders_in(root)
        found = [path.name for path in folders if (path / "train" / self.normal).is_dir()]
        for name in found:
            if valid_utf8(name) != name:
                raise NfbenchError(f"folder {root / name}: the name is not UTF-8; rename it")
        if not found:
            trains = [path / "train" for path in folders if (path / "train").is_dir()]
            close = [part for train in trains for part in folders_in(train) if is_misspelled(part.name, self.normal)]
            rename = f"; rename {close[0]} to '{self.normal}'" if close else ""
            raise NfbenchError(f"folder {root} has no category: expected <category>/train/{self.normal}{rename}")
        return known_categories(self.title, self.categories, found, root) if self.categories else found

    def samples(self, root: Path, category: str) -> list[Sample]:
        """Lists all images of a category, each anomalous one with its mask."""
        folder, faults = root / category, Faults()
        normal = [Sample("train", "good", image) for image in faults.images(folder / "train" / self.normal)]
        normal += validation_samples(folder / "validation", self.normal, faults)
        if not self.needs_tests and not (folder / "test").exists():
            return faults.settle(normal)
        try:
            defects = [path.name for path in folders_in(folder / "test")]
        except NfbenchError as error:
            faults.add(error)
            return faults.settle(normal)
        test = [sample for defect in defects for sample in self._tested(folder, defect, faults)]
        if self.needs_tests and (self.normal not in defects or len(defects) < 2):
            faults.add(f"folder {folder / 'test'} needs both '{self.normal}' images and at least one folder of defects")
        return faults.settle(normal + test)

    def _tested(self, folder: Path, defect: str, faults: Faults) -> list[Sample]:
        """Lists the test images of one folder: of a defect type, or normal ones."""
        if defect == self.normal:
            return [Sample("test", "good", image) for image in faults.images(folder / "test" / defect)]
        if is_misspelled(defect, self.normal):
            faults.add(f"folder {folder / 'test' / defect} is not a defect type; rename it to '{self.normal}'")
        ground_truth = folder / "ground_truth"
        if not self.masks_required and not ground_truth.is_dir():
            return [Sample("test", defect, image) for image in faults.images(folder / "test" / defect)]
        return masked_samples(defect, folder / "test" / defect, ground_truth / defect, faults)


def masked_samples(defect: str, folder: Path, ground_truth: Path, faults: Faults) -> list[Sample]:
    """Lists the anomalous test images of a folder with their masks, which have the image's stem and maybe ``_mask``.

    Args:
        defect: defect type.
        folder: folder of the images.
        ground_truth: folder of the masks.
        faults: collects an empty folder, images without a mask, and images with two.
    """
    images, masks = faults.images(folder), _masks(ground_truth, faults)
    for image in images:
        if image.stem not in masks:
            faults.add(f"{image} is anomalous but has no mask; expected {ground_truth / f'{image.stem}_mask.png'}")
    return [Sample("test", defect, image, masks.get(image.stem)) for image in images]


def validation_samples(folder: Path, normal: str, faults: Faults, below: str = "") -> list[Sample]:
    """Lists the normal images of a category's ``validation`` folder; none if it does not exist.

    Args:
        folder: the validation folder.
        normal: name of the folder of normal images in it.
        faults: collects an empty or misspelled folder of normal images.
        below: subfolder that contains the images, if they are not directly in the folder of normal images.
    """
    found = [path.name for path in folders_in(folder)] if folder.is_dir() else []
    for name in found:
        if is_misspelled(name, normal):
            faults.add(f"folder {folder / name} is not read; rename it to '{normal}'")
    images = faults.images(folder / normal / below) if normal in found else []
    return [Sample("validation", "good", image) for image in images]


def is_misspelled(name: str, normal: str) -> bool:
    """Whether a name differs from that of the normal images only in upper and lower case."""
    return name != normal and name.casefold() == normal.casefold()


def require_root(root: Path, name: str | None = None) -> None:
    """Checks that a root exists and is a folder.

    Args:
        root: folder with the categories.
        name: reader of the dataset, if 'nfbench data fetch' can fetch it.

    Raises:
        NfbenchError: it does not; the message says how to set the folder or fetch the dataset.
    """
    if root.is_dir():
        return
    fetch = f"; 'nfbench data fetch {name}' downloads it or explains how to get it" if name else ""
    wrong = "is not a folder" if root.exists() or any(parent.is_file() for parent in root.parents) else "does not exist"
    raise NfbenchError(f"folder {root} {wrong}; set 'data_root' (or the dataset's 'root') to the right folder{fetch}")


def known_categories(title: str, known: Sequence[str], found: Sequence[str], root: Path) -> list[str]:
    """Returns the ``known`` categories of a dataset that were found, in their official order.

    Raises:
        NfbenchError: none was found; the message lists what is there instead.
    """
    chosen = [category for category in known if category in found]
    if not chosen:
        raise NfbenchError(f"folder {root} has no category of {title}, only {', '.join(found)}")
    return chosen


def _masks(folder: Path, faults: Faults) -> dict[str, Path]:
    """Returns masks by the stem of their image; reports images with two masks."""
    masks: dict[str, Path] = {}
    for path in files_in(folder, IMAGE_ENDINGS) if folder.is_dir() else []:
        other = masks.setdefault(path.stem.removesuffix("_mask"), path)
        if other != path:
            faults.add(f"one image has two masks: {other} and {path}; remove one")
    return masks

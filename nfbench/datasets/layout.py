"""MVTec AD's folder layout, which many datasets share.

<category>/train/good/*.png
<category>/test/good/*.png
<category>/test/<defect>/<stem>.png
<category>/ground_truth/<defect>/<stem>_mask.png
"""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from nfbench.core.errors import NfbenchError
from nfbench.datasets.base import Dataset, Sample

__all__ = ["IMAGE_ENDINGS", "LayoutDataset", "known_categories", "list_images", "require_root"]

IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")


class LayoutDataset(Dataset):
    """A dataset in MVTec AD's layout.

    Class attributes:
        normal: name of the folders of normal images.
        masks_required: whether a category without a ``ground_truth`` folder is an error. Where the folder is there,
            each anomalous image needs its mask all the same.
    """

    normal: ClassVar[str] = "good"
    masks_required: ClassVar[bool] = True

    def available(self, root: Path) -> list[str]:
        """Folders below ``root`` that have a folder ``train/<normal>``; official ones in their order, if there are."""
        require_root(root, self.name)
        found = sorted(path.parent.parent.name for path in root.glob(f"*/train/{self.normal}") if path.is_dir())
        if not found:
            raise NfbenchError(f"folder {root} has no category: no <category>/train/{self.normal} below it")
        return known_categories(self.title, self.categories, found, root) if self.categories else found

    def samples(self, root: Path, category: str) -> list[Sample]:
        """All images of a category, each anomalous one with its mask."""
        folder = root / category
        train = [Sample("train", "good", image) for image in list_images(folder / "train" / self.normal)]
        ground_truth = folder / "ground_truth"
        with_masks = self.masks_required or ground_truth.is_dir()
        test = []
        for defect in sorted(path.name for path in _folders(folder / "test")):
            anomalous = defect != self.normal
            masks = _masks(ground_truth / defect) if with_masks and anomalous else {}
            for image in list_images(folder / "test" / defect):
                mask = masks.get(image.stem)
                if with_masks and anomalous and mask is None:
                    expected = ground_truth / defect / f"{image.stem}_mask.png"
                    raise NfbenchError(f"{image} is anomalous but has no mask; expected {expected}")
                test.append(Sample("test", defect if anomalous else "good", image, mask))
        if len({sample.anomalous for sample in test}) < 2:
            raise NfbenchError(
                f"folder {folder / 'test'} needs both '{self.normal}' images and at least one folder of defects"
            )
        return train + test


def require_root(root: Path, name: str | None = None) -> None:
    """Refuses a root that does not exist.

    Args:
        root: folder of the categories.
        name: reader of a dataset that 'nfbench data fetch' knows.

    Raises:
        NfbenchError: says where to put the images, or how to get them.
    """
    if not root.is_dir():
        fetch = f"; 'nfbench data fetch {name}' gets it, or says how" if name else ""
        raise NfbenchError(
            f"folder {root} does not exist; set 'data_root' (or the dataset's 'root') to where it lies{fetch}"
        )


def known_categories(title: str, known: Sequence[str], found: Sequence[str], root: Path) -> list[str]:
    """Those of a dataset's ``known`` categories that were found, in their official order.

    Raises:
        NfbenchError: there is none; names what is there instead.
    """
    chosen = [category for category in known if category in found]
    if not chosen:
        raise NfbenchError(f"folder {root} has none of {title}'s categories, only {', '.join(found)}")
    return chosen


def _folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise NfbenchError(f"folder {folder} is missing")
    return [path for path in folder.iterdir() if path.is_dir()]


def list_images(folder: Path) -> list[Path]:
    """Images directly in a folder, sorted.

    Raises:
        NfbenchError: there is none.
    """
    found = sorted(path for path in folder.glob("*") if path.suffix.lower() in IMAGE_ENDINGS)
    if not found:
        raise NfbenchError(f"folder {folder} has no image ({' '.join(IMAGE_ENDINGS)})")
    return found


def _masks(folder: Path) -> dict[str, Path]:
    """Masks by the stem of their image, whole stems only.

    Raises:
        NfbenchError: an image has two.
    """
    masks: dict[str, Path] = {}
    for path in sorted(folder.glob("*")):
        if path.suffix.lower() in IMAGE_ENDINGS:
            other = masks.setdefault(path.stem.removesuffix("_mask"), path)
            if other != path:
                raise NfbenchError(f"two masks of one image: {other} and {path}; remove one")
    return masks

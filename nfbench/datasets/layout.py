"""MVTec AD's folder layout, which many datasets share.

<category>/train/good/*.png
<category>/test/good/*.png
<category>/test/<defect>/<stem>.png
<category>/ground_truth/<defect>/<stem>_mask.png
"""

from pathlib import Path

from nfbench.datasets.base import Sample
from nfbench.errors import NfbenchError

__all__ = ["IMAGE_ENDINGS", "layout_categories", "layout_samples"]

IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")


def layout_categories(root: Path) -> list[str]:
    """Names of the folders below ``root`` that have a ``train/good`` folder, sorted.

    Raises:
        NfbenchError: ``root`` does not exist or has no such folder.
    """
    if not root.is_dir():
        raise NfbenchError(f"folder {root} does not exist; set 'data_root' (or the dataset's 'root') to where it lies")
    found = sorted(path.parent.parent.name for path in root.glob("*/train/good") if path.is_dir())
    if not found:
        raise NfbenchError(f"folder {root} has no category: no <category>/train/good below it")
    return found


def layout_samples(root: Path, category: str, *, masks_required: bool) -> list[Sample]:
    """All samples of a category.

    Args:
        root: folder of the categories.
        category: name of the category's folder.
        masks_required: whether a category without a ``ground_truth`` folder is an error. Where the folder is there,
            each anomalous image needs its mask all the same.

    Raises:
        NfbenchError: a split is empty, or the mask of an anomalous image is missing; names folder or file.
    """
    folder = root / category
    train = [Sample("train", "good", image) for image in _images(folder / "train" / "good")]
    ground_truth = folder / "ground_truth"
    with_masks = masks_required or ground_truth.is_dir()
    test = []
    for defect in sorted(path.name for path in _folders(folder / "test")):
        masks = _masks(ground_truth / defect) if with_masks and defect != "good" else {}
        for image in _images(folder / "test" / defect):
            mask = masks.get(image.stem)
            if with_masks and defect != "good" and mask is None:
                expected = ground_truth / defect / f"{image.stem}_mask.png"
                raise NfbenchError(f"{image} is anomalous but has no mask; expected {expected}")
            test.append(Sample("test", defect, image, mask))
    if not any(sample.anomalous for sample in test) or all(sample.anomalous for sample in test):
        raise NfbenchError(f"folder {folder / 'test'} needs both 'good' images and at least one folder of defects")
    return train + test


def _folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise NfbenchError(f"folder {folder} is missing")
    return [path for path in folder.iterdir() if path.is_dir()]


def _images(folder: Path) -> list[Path]:
    found = sorted(path for path in folder.glob("*") if path.suffix.lower() in IMAGE_ENDINGS)
    if not found:
        raise NfbenchError(f"folder {folder} has no image ({' '.join(IMAGE_ENDINGS)})")
    return found


def _masks(folder: Path) -> dict[str, Path]:
    """Masks by the stem of their image, whole stems only."""
    found = (path for path in sorted(folder.glob("*")) if path.suffix.lower() in IMAGE_ENDINGS)
    return {path.stem.removesuffix("_mask"): path for path in found}

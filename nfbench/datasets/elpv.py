"""ELPV: electroluminescence images of solar cells, from the installed package ``elpv-dataset``.

2,624 grey images of 300 x 300 pixels with a defect probability from experts, no masks (Buerhop-Lutz et al., 2018;
CC BY-NC-SA 4.0). The dataset has no official split. Here, probability 0 is normal and 1 is anomalous; images in between
are omitted. 70 % of the normal images of each cell type, chosen by a hash of their names, are for training.
"""

import math
from pathlib import Path

from nfbench.core.errors import NfbenchError
from nfbench.core.provenance import derive_seed
from nfbench.core.registry import package_folder
from nfbench.datasets._base import Dataset, Faults, Sample
from nfbench.datasets._listing import files_below
from nfbench.datasets._rows import read_lines

__all__ = ["DATASET", "Elpv"]

_TRAIN_SHARE = 0.7
_FORM = "an image, a probability, and mono or poly"


class Elpv(Dataset):
    """Monocrystalline and polycrystalline cells as two categories."""

    title = "ELPV"
    licence = "CC BY-NC-SA 4.0"
    citation = "Buerhop-Lutz et al.: A benchmark for visual identification of defective solar cells, EU PVSEC 2018"
    source = "pip install elpv-dataset"
    categories = ("mono", "poly")
    has_masks = False

    def available(self, root: Path) -> list[str]:
        """Lists both categories, or those in ``labels.csv`` below ``root``; does not require the package."""
        labels = root / "labels.csv"
        if not labels.is_file():
            return list(self.categories)
        kinds = {line.split()[-1] for _, line in read_lines(labels)}
        found = [category for category in self.categories if category in kinds]
        if not found:
            raise NfbenchError(f"{labels} has no line of {_FORM}")
        return found

    def samples(self, root: Path, category: str) -> list[Sample]:
        """Lists the split described above, from ``root`` if it has ``labels.csv``, else from the package."""
        folder, faults = _folder(root), Faults()
        images = _labels(folder, category, faults)
        normal = sorted((path for path, p in images.items() if p == 0), key=lambda path: derive_seed("elpv", path.name))
        n_train = round(_TRAIN_SHARE * len(normal))
        train = [Sample("train", "good", path) for path in sorted(normal[:n_train])]
        test = [Sample("test", "good", path) for path in sorted(normal[n_train:])]
        anomalous = [Sample("test", "defective", path) for path in sorted(images) if images[path] == 1]
        for name, found in (("training", train), ("normal test", test), ("anomalous test", anomalous)):
            if not found:
                faults.add(f"{folder / 'labels.csv'} leaves '{category}' without {name} images")
        return faults.settle(train + test + anomalous)

    def files(self, root: Path, category: str) -> list[Path]:
        """Lists the labels and all images, since names do not tell the cell type; none without the package."""
        is_there = (root / "labels.csv").is_file() or package_folder("elpv_dataset")
        return files_below(_folder(root)) if is_there else []

    def side_files(self, root: Path, category: str) -> list[Path]:
        """Lists the table of labels."""
        return [_folder(root) / "labels.csv"]


def _labels(folder: Path, category: str, faults: Faults) -> dict[Path, float]:
    """Reads defect probabilities by image; reports lines that are not image, probability and cell type."""
    path, images = folder / "labels.csv", {}
    for number, line in read_lines(path):
        name, probability, kind = _split(line)
        if not 0 <= probability <= 1 or kind not in Elpv.categories:
            faults.add(f"{path}, line {number}: expected {_FORM}, but found '{line.strip()}'")
        elif folder / name in images:
            faults.add(f"{path}, line {number}: {name} is listed twice; remove one")
        elif kind == category:
            images[folder / name] = probability
    return images


def _split(line: str) -> tuple[str, float, str]:
    """Splits a line into name, probability and cell type; the probability is NaN if the line is malformed."""
    try:
        name, probability, kind = line.split()
        return name, float(probability), kind
    except ValueError:
        return "", math.nan, ""


def _folder(root: Path) -> Path:
    return root if (root / "labels.csv").is_file() else _package_folder()


def _package_folder() -> Path:
    folder = package_folder("elpv_dataset")
    if folder is None:
        raise NfbenchError("dataset 'elpv' is in the package elpv-dataset; run 'pip install elpv-dataset'")
    return folder / "data"


DATASET = Elpv()

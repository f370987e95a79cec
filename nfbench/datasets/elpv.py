"""ELPV: solar cells in electroluminescence images, from the installed package ``elpv-dataset``.

2,624 grey images of 300 x 300 pixels with a defect probability from experts, no masks (Buerhop-Lutz et al., 2018;
CC BY-NC-SA 4.0). The set has no split of its own. Here: probability 0 is normal, 1 is anomalous, images in between are
left out; 70 % of the normal images of each cell type are for training, chosen by a hash of their names.
"""

import importlib.util
from pathlib import Path

from nfbench.core.errors import NfbenchError
from nfbench.core.provenance import derive_seed
from nfbench.datasets.base import Dataset, Sample, files_below

__all__ = ["DATASET", "Elpv"]

_TRAIN_SHARE = 0.7


class Elpv(Dataset):
    """Monocrystalline and polycrystalline cells as two categories."""

    title = "ELPV"
    licence = "CC BY-NC-SA 4.0"
    citation = "Buerhop-Lutz et al.: A benchmark for visual identification of defective solar cells, EU PVSEC 2018"
    source = "pip install elpv-dataset"
    categories = ("mono", "poly")
    has_masks = False

    def available(self, root: Path) -> list[str]:
        """Both categories; the package is looked for when they are read."""
        return list(self.categories)

    def samples(self, root: Path, category: str) -> list[Sample]:
        """The split described above. ``root`` is used where it holds ``labels.csv``, else the installed package."""
        folder = _folder(root)
        rows = [line.split() for line in (folder / "labels.csv").read_text().splitlines() if line.strip()]
        images = {folder / name: float(probability) for name, probability, kind in rows if kind == category}
        normal = sorted((path for path, p in images.items() if p == 0), key=lambda path: derive_seed("elpv", path.name))
        n_train = round(_TRAIN_SHARE * len(normal))
        train = [Sample("train", "good", path) for path in sorted(normal[:n_train])]
        test = [Sample("test", "good", path) for path in sorted(normal[n_train:])]
        anomalous = [Sample("test", "defective", path) for path in sorted(images) if images[path] == 1]
        return train + test + anomalous

    def files(self, root: Path, category: str) -> list[Path]:
        """The labels and all images, since names do not say the kind of cell; none without the package."""
        is_there = (root / "labels.csv").is_file() or importlib.util.find_spec("elpv_dataset")
        return files_below(_folder(root)) if is_there else []


def _folder(root: Path) -> Path:
    return root if (root / "labels.csv").is_file() else _package_folder()


def _package_folder() -> Path:
    spec = importlib.util.find_spec("elpv_dataset")
    if spec is None:
        raise NfbenchError("dataset 'elpv' is in the package elpv-dataset; run 'pip install elpv-dataset'")
    return Path(spec.origin).parent / "data"


DATASET = Elpv()

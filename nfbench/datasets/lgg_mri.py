"""LGG-MRI: brain slices of 110 patients with lower-grade glioma (Buda et al., 2019; CC BY-NC-SA 4.0).

kaggle_3m/TCGA_<institution>_<patient>_<date>/TCGA_..._<slice>.tif         256 x 256 pixels, three sequences as channels
kaggle_3m/TCGA_<institution>_<patient>_<date>/TCGA_..._<slice>_mask.tif    255 in tumours

The dataset has no official split, and U-Flow's paper, whose Table 5 has results on it, gives none. Here, patients are
ranked by a hash of their folder names. The first 70 % are for training, the others for testing, so no patient is in
both. A slice is anomalous if its mask marks a pixel. Training uses the normal slices of training patients and omits
their slices with tumours. Testing uses all slices of the other patients.
"""

from pathlib import Path

from nfbench.core.errors import NfbenchError
from nfbench.core.provenance import derive_seed
from nfbench.datasets._base import Counts, Faults, Sample
from nfbench.datasets._images import read_mask
from nfbench.datasets._layout import require_root
from nfbench.datasets._listing import files_in, folders_in
from nfbench.datasets._sources import FetchedDataset

__all__ = ["DATASET", "LggMri"]

_TRAIN_SHARE = 0.7
_MASK = "_mask"
_PATIENTS = (
    "TCGA_CS_4941_19960909", "TCGA_CS_4942_19970222", "TCGA_DU_5849_19950405", "TCGA_DU_5851_19950428",
    "TCGA_FG_5962_20000626", "TCGA_HT_7473_19970826", "TCGA_HT_7475_19970918",
)  # fmt: skip
_SLICES, _TUMOURS = 4, 2


class LggMri(FetchedDataset, name="lgg_mri"):
    """One category, ``all``."""

    title = "LGG-MRI"
    categories = ("all",)
    has_miniature = True

    def available(self, root: Path) -> list[str]:
        """Lists the only category if there are patients."""
        _patients(root)
        return list(self.categories)

    def samples(self, root: Path, category: str) -> list[Sample]:
        """Lists the split described above, sorted by patient and slice number; reads every mask."""
        patients = _patients(root)
        ranked = sorted(patients, key=lambda folder: derive_seed("lgg_mri", folder.name))
        trained = set(ranked[: round(_TRAIN_SHARE * len(ranked))])
        train, test, faults = [], [], Faults()
        for folder in patients:
            for image, mask in _slices(folder, faults):
                try:
                    tumour = bool(read_mask(mask).any())
                except NfbenchError as error:
                    faults.add(error if mask.exists() else f"{image} has no mask; expected {mask}")
                    continue
                if folder not in trained:
                    test.append(Sample("test", "tumour" if tumour else "good", image, mask if tumour else None))
                elif not tumour:
                    train.append(Sample("train", "good", image))
        return faults.settle(train + test)

    def side_files(self, root: Path, category: str) -> list[Path]:
        """Lists all masks, which determine the slices with tumours."""
        return [mask for folder in _patients(root) for _, mask in _slices(folder, Faults())]

    def facts(self, root: Path) -> dict[str, int]:
        """Counts patients, slices, and slices with tumours."""
        masks = self.side_files(root, "all")
        tumours = sum(bool(read_mask(mask).any()) for mask in masks)
        return {"patients": len(_patients(root)), "slices": len(masks), "slices with tumour": tumours}

    def miniature(self, root: Path) -> dict[str, Counts]:
        """Generates seven patients, the archive's second copy of the data, and its table of patients."""
        from nfbench.datasets._miniature import Painter, write_once

        for base in (root / "kaggle_3m", root / "lgg-mri-segmentation" / "kaggle_3m"):
            for patient in _PATIENTS:
                for number in range(1, _SLICES + _TUMOURS + 1):
                    stem, painter = base / patient / f"{patient}_{number}", Painter(root, 64, 64)
                    image, mask = stem.with_suffix(".tif"), stem.with_name(f"{stem.name}{_MASK}.tif")
                    if number <= _SLICES:
                        painter.normal(image)
                        painter.blank(mask)
                    else:
                        painter.anomalous(image, mask)
            write_once(base / "data.csv", lambda temporary: temporary.write_text("Patient,RNASeqCluster\n"))
        n_train = round(_TRAIN_SHARE * len(_PATIENTS))
        n_test = len(_PATIENTS) - n_train
        return {"all": Counts(n_train * _SLICES, n_test * _SLICES, n_test * _TUMOURS)}


def _patients(root: Path) -> list[Path]:
    """Lists the folders of patients. The archive holds them twice; the second, nested copy is not read."""
    require_root(root, "lgg_mri")
    base = root / "kaggle_3m" if (root / "kaggle_3m").is_dir() else root
    found = [path for path in folders_in(base) if path.name.startswith("TCGA_")]
    if not found:
        raise NfbenchError(f"folder {base} has no patient: expected folders TCGA_*")
    return found


def _slices(folder: Path, faults: Faults) -> list[tuple[Path, Path]]:
    """Lists images and masks of a patient by slice number; reports images without a number in their name."""
    numbered = {}
    for image in files_in(folder, [".tif"]):
        if image.stem.endswith(_MASK):
            continue
        number = image.stem.rpartition("_")[2]
        if number.isdecimal():
            numbered[image] = int(number)
        else:
            faults.add(f"{image}: the name does not end with the slice number")
    return [
        (image, image.with_name(f"{image.stem}{_MASK}.tif")) for image in sorted(numbered, key=numbered.__getitem__)
    ]


DATASET = LggMri()

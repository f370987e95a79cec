"""VisA, 12 objects (Zou et al., ECCV 2022; CC BY 4.0): the one-class split of ``split_csv/1cls.csv``.

<object>/Data/Images/{Normal,Anomaly}/0000.JPG
<object>/Data/Masks/Anomaly/0000.png
split_csv/1cls.csv      object,split,label,image,mask; paths relative to the root

8,659 normal training images, 962 normal and 1,200 anomalous test images of about 1500 x 1000 pixels. Masks contain
numbers of defect classes (1, 2, ...) instead of 255, so they look black; all values above 0 are defects.
"""

from pathlib import Path
from typing import Literal

from nfbench.core.errors import NfbenchError
from nfbench.datasets._base import Counts, Faults, Sample
from nfbench.datasets._layout import known_categories, require_root
from nfbench.datasets._listing import files_below, folders_in
from nfbench.datasets._rows import read_table
from nfbench.datasets._sources import FetchedDataset

__all__ = ["DATASET", "Visa"]

_SPLIT = "split_csv/1cls.csv"
_COLUMNS = ["object", "split", "label", "image", "mask"]


class Visa(FetchedDataset, name="visa"):
    """VisA as published, with its one-class split."""

    title = "VisA"
    categories = (
        "candle", "capsules", "cashew", "chewinggum", "fryum", "macaroni1", "macaroni2", "pcb1", "pcb2", "pcb3",
        "pcb4", "pipe_fryum",
    )  # fmt: skip
    has_miniature = True

    def available(self, root: Path) -> list[str]:
        """Lists the official objects with a folder below ``root``."""
        require_root(root, self.name)
        found = [path.name for path in folders_in(root) if (path / "Data").is_dir()]
        return known_categories(self.title, self.categories, found or ["no <object>/Data"], root)

    def samples(self, root: Path, category: str) -> list[Sample]:
        """Lists the rows of an object, sorted by path; the split does not distinguish defect types."""
        samples, faults = [], Faults()
        for row in _rows(root):
            if row["object"] == category:
                try:
                    samples.append(_sample(root, row))
                except NfbenchError as error:
                    faults.add(error)
        if not samples and not faults.found:
            faults.add(f"{root / _SPLIT} has no row for the object '{category}'")
        samples.sort(key=lambda sample: (sample.split != "train", sample.anomalous, str(sample.image)))
        return faults.settle(samples)

    def files(self, root: Path, category: str) -> list[Path]:
        """Lists the files of the object's folder and the split."""
        return [*files_below(root / category), *(path for path in [root / _SPLIT] if path.is_file())]

    def side_files(self, root: Path, category: str) -> list[Path]:
        """Lists the table of the split."""
        return [root / _SPLIT]

    def miniature(self, root: Path) -> dict[str, Counts]:
        """Generates all objects, masks with class numbers, and the split."""
        from nfbench.datasets._miniature import COUNTS, Painter, write_once

        painter = Painter(root)
        rows = [",".join(_COLUMNS)]
        for category in self.categories:
            images, masks = root / category / "Data/Images", root / category / "Data/Masks/Anomaly"
            for number in range(COUNTS.train + COUNTS.test_normal):
                path = images / f"Normal/{number:04}.JPG"
                painter.normal(path)
                split = "train" if number < COUNTS.train else "test"
                rows.append(f"{category},{split},normal,{path.relative_to(root)},")
            for number in range(COUNTS.test_anomalous):
                path, mask = images / f"Anomaly/{number:03}.JPG", masks / f"{number:03}.png"
                painter.anomalous(path, mask, value=1 + number % 3)
                rows.append(f"{category},test,anomaly,{path.relative_to(root)},{mask.relative_to(root)}")
        write_once(root / _SPLIT, lambda temporary: temporary.write_text("\n".join(rows) + "\n"))
        return dict.fromkeys(self.categories, COUNTS)


def _rows(root: Path) -> list[dict[str, str]]:
    path = root / _SPLIT
    if not path.is_file():
        raise NfbenchError(f"{path} is missing; it is in VisA's archive and in its repository, {Visa.source}")
    return read_table(path, _COLUMNS)


_SPLITS: dict[str, Literal["train", "test"]] = {"train": "train", "test": "test"}


def _sample(root: Path, row: dict[str, str]) -> Sample:
    split, label = _SPLITS.get(row["split"]), row["label"]
    if split is None or label not in ("normal", "anomaly"):
        raise NfbenchError(f"{root / _SPLIT}: the row of {row['image']} has split '{row['split']}', label '{label}'")
    anomalous = label == "anomaly"
    if anomalous and not row["mask"]:
        raise NfbenchError(f"{root / _SPLIT}: {row['image']} is anomalous but has no mask")
    if anomalous and split == "train":
        raise NfbenchError(f"{root / _SPLIT}: {row['image']} is anomalous but in the split 'train'")
    mask = root / row["mask"] if anomalous else None
    return Sample(split, "anomaly" if anomalous else "good", root / row["image"], mask)


DATASET = Visa()

"""Real-IAD, read from the user's folder (Wang et al., CVPR 2024; CC BY-NC-SA 4.0).

realiad_jsons/realiad_jsons/<category>.json       also directly in the outer folder
realiad_<size>/<category>/OK/S0001/<category>_0001_OK_C1_<time>.jpg
realiad_<size>/<category>/NG/<defect>/S0002/<category>_0002_NG_<defect>_C1_<time>.jpg, and a mask next to it

30 categories; each part is photographed in five views (C1 to C5), and each view is an image of its own here. The JSON
file has the official split with the paths of images and masks below the folder of the category. A view of a defective
part that does not show the defect has no mask and is normal, as in the authors' code. <size> is 256, 512, 1024 or raw.

The readers ``real_iad_noisy_00`` to ``real_iad_noisy_40`` take the authors' lists for training without any labels
(``realiad_jsons_fuiad_0.0`` to ``realiad_jsons_fuiad_0.4``): that share of the training images is anomalous, and
methods take all of them as normal.
"""

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from pydantic import ValidationError

from nfbench.config.validation import Model
from nfbench.core.errors import NfbenchError
from nfbench.datasets._base import Counts, Dataset, Faults, Sample
from nfbench.datasets._layout import known_categories, require_root
from nfbench.datasets._listing import files_below, folders_in

__all__ = ["DATASET", "RealIad"]

_SIZES = ("realiad_256", "realiad_512", "realiad_1024", "realiad_raw")
_DEFECTS = ("AK", "HS")
_VIEWS = 2


class _Row(Model):
    """One image of a split; the paths are below the folder of the category."""

    category: str
    anomaly_class: str
    image_path: str
    mask_path: str | None


class _Split(Model):
    """The official split of a category."""

    meta: dict[str, Any]
    train: list[_Row]
    test: list[_Row]

    @property
    def normal(self) -> str:
        """Name of the class of normal images."""
        return str(self.meta.get("normal_class", "OK"))


class RealIad(Dataset):
    """Real-IAD with its multi-view split; any subset of its categories.

    Args:
        noise: share of anomalous training images, as the folder of the authors' lists names it; None for the split
            whose training images are all normal.
    """

    title = "Real-IAD"
    licence = "CC BY-NC-SA 4.0"
    citation = "Wang et al.: Real-IAD: A real-world multi-view dataset for industrial anomaly detection, CVPR 2024"
    source = "https://huggingface.co/datasets/REAL-IAD/Real-IAD (access on request)"
    categories = (
        "audiojack", "bottle_cap", "button_battery", "end_cap", "eraser", "fire_hood", "mint", "mounts", "pcb",
        "phone_battery", "plastic_nut", "plastic_plug", "porcelain_doll", "regulator", "rolled_strip_base",
        "sim_card_set", "switch", "tape", "terminalblock", "toothbrush", "toy", "toy_brick", "transistor1", "u_block",
        "usb", "usb_adaptor", "vcpill", "wooden_beads", "woodstick", "zipper",
    )  # fmt: skip
    has_miniature = True

    def __init__(self, noise: float | None = None) -> None:
        self.noise = noise
        self.lists = "realiad_jsons" if noise is None else f"realiad_jsons_fuiad_{noise:.1f}"
        if noise is not None:
            self.title = f"Real-IAD, {noise:.0%} of the training images anomalous"  # type: ignore[misc]

    @property
    def miniature_categories(self) -> tuple[str, ...]:
        """All categories; two of them with noise."""
        return self.categories if self.noise is None else self.categories[8:10]

    def available(self, root: Path) -> list[str]:
        """Lists the official categories that have images and a split below ``root``."""
        require_root(root)
        images = _images(root)
        found = [path.name for path in folders_in(images) if self._split_file(root, path.name).exists()]
        return known_categories(self.title, self.categories, found or [f"folders without {self.lists}"], root)

    def samples(self, root: Path, category: str) -> list[Sample]:
        """Lists the official split; names images and masks that are missing, and images on both sides."""
        folder, path, faults = _images(root) / category, self._split_file(root, category), Faults()
        split = _read(path)
        samples: list[Sample] = []
        parts: Mapping[Literal["train", "test"], list[_Row]] = {"train": split.train, "test": split.test}
        for name, rows in parts.items():
            for row in rows:
                anomalous = name == "test" and row.mask_path is not None and row.anomaly_class != split.normal
                if name == "train" and row.anomaly_class != split.normal and self.noise is None:
                    faults.add(f"{path}: {row.image_path} is a training image of '{row.anomaly_class}', not normal")
                    continue
                image = _below(folder, row.image_path, path, faults)
                mask = _below(folder, row.mask_path, path, faults) if anomalous and row.mask_path else None
                if image and (mask or not anomalous):
                    samples.append(Sample(name, row.anomaly_class if anomalous else "good", image, mask))
        trained = {row.image_path for row in split.train}
        for row in split.test:
            if row.image_path in trained:
                faults.add(f"{path}: {row.image_path} is a training image and a test image")
        samples.sort(key=lambda sample: (sample.split != "train", str(sample.image)))
        return faults.settle(samples)

    def files(self, root: Path, category: str) -> list[Path]:
        """Lists the split and all files of the category."""
        return [
            self._split_file(root, category),
            *(file for size in _SIZES for file in files_below(root / size / category)),
        ]

    def side_files(self, root: Path, category: str) -> list[Path]:
        """Lists the split."""
        return [self._split_file(root, category)]

    def facts(self, root: Path) -> dict[str, int]:
        """Counts the anomalous training images of each category, if the lists may have some."""
        if self.noise is None:
            return {}
        found = {}
        for category in self.available(root):
            split = _read(self._split_file(root, category))
            noisy = sum(row.anomaly_class != split.normal for row in split.train)
            found[f"{category}, anomalous training images"] = noisy
        return found

    def _split_file(self, root: Path, category: str) -> Path:
        """Returns the path of a split; the archive of splits has a folder of the same name in it."""
        outer = root / self.lists
        inner = outer / self.lists
        return (inner if inner.is_dir() else outer) / f"{category}.json"

    def miniature(self, root: Path) -> dict[str, Counts]:
        """Generates ``miniature_categories`` with two views of each part; noise replaces the last training images."""
        from nfbench.datasets._miniature import COUNTS, Painter, write_once

        painter = Painter(root, 48, 48)
        counts = {"OK": COUNTS.train + COUNTS.test_normal, **dict.fromkeys(_DEFECTS, COUNTS.test_anomalous // 2)}
        noisy = round((self.noise or 0) * COUNTS.train)
        for category in self.miniature_categories:
            folder, rows = root / _SIZES[2] / category, []
            numbers = ((kind, image) for kind, count in counts.items() for image in range(count))
            for place, (kind, image) in enumerate(numbers):
                part, view = 1 + place // _VIEWS, 1 + image % _VIEWS
                kept = "OK" if kind == "OK" else f"NG/{kind}"
                stem = f"{kept}/S{part:04}/{category}_{part:04}_{kept.replace('/', '_')}_C{view}_20231021124338"
                mask = None if kind == "OK" else f"{stem}.png"
                if mask:
                    painter.anomalous(folder / f"{stem}.jpg", folder / mask)
                else:
                    painter.normal(folder / f"{stem}.jpg")
                paths = {"image_path": f"{stem}.jpg", "mask_path": mask}
                rows.append({"category": category, "anomaly_class": kind, **paths})
            meta = {"prefix": f"realiad/{category}", "normal_class": "OK"}
            first, last = COUNTS.train - noisy, len(rows) - noisy
            split = {"meta": meta, "train": rows[:first] + rows[last:], "test": rows[first:last]}
            path = root / self.lists / self.lists / f"{category}.json"
            write_once(path, partial(_write_text, text=json.dumps(split)))
        made = Counts(COUNTS.train, COUNTS.test_normal + noisy, COUNTS.test_anomalous - noisy)
        return dict.fromkeys(self.miniature_categories, made)


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _images(root: Path) -> Path:
    """Returns the folder of images of one size.

    Raises:
        NfbenchError: there is none, or more than one.
    """
    found = [name for name in _SIZES if (root / name).is_dir()]
    if len(found) != 1:
        there = f"has {' and '.join(found)}; keep one there" if found else f"has none of {', '.join(_SIZES)}"
        raise NfbenchError(f"folder {root} {there}; Real-IAD is read in one size")
    return root / found[0]


def _read(path: Path) -> _Split:
    """Reads a split.

    Raises:
        NfbenchError: it is missing, or not a split.
    """
    try:
        return _Split.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise NfbenchError(f"{path} is missing; it has the split of this category") from None
    except ValidationError as error:
        first = error.errors()[0]
        raise NfbenchError(f"{path}, {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    except (OSError, ValueError) as error:
        raise NfbenchError(f"{path} cannot be read: {error}") from None


def _below(folder: Path, name: str, split: Path, faults: Faults) -> Path | None:
    """Returns the path of an image or mask; adds a fault if it leads out of the folder or does not exist."""
    parts = PurePosixPath(name)
    if parts.is_absolute() or ".." in parts.parts:
        faults.add(f"{split}: {name} leads out of {folder}")
    elif not (folder / parts).is_file():
        faults.add(f"{folder / parts} is missing; {split} lists it")
    else:
        return folder / parts
    return None


DATASET = RealIad()

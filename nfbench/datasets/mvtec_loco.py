"""MVTec LOCO AD (Bergmann, Batzner, Fauser, Sattlegger, Steger, IJCV 130, 2022; CC BY-NC-SA 4.0).

<category>/train/good/000.png
<category>/validation/good/000.png
<category>/test/good/000.png
<category>/test/<kind>/000.png                     kind: logical_anomalies or structural_anomalies
<category>/ground_truth/<kind>/000/000.png, ...    one mask per defect; its grey value is the kind of defect
<category>/defects_config.json                     kinds of defects, and how much of each must be found

5 categories, 1,778 training and 305 validation images, 575 normal test images, 561 with logical and 432 with structural
anomalies. The mask of an image is the folder of its defects; pixel metrics take their union.
"""

import json
from pathlib import Path

from nfbench.core.errors import NfbenchError
from nfbench.datasets._base import Counts, Faults, Sample
from nfbench.datasets._channels import DEFECTS, mask_files, read_defects
from nfbench.datasets._layout import known_categories, require_root, validation_samples
from nfbench.datasets._listing import folders_in
from nfbench.datasets._sources import FetchedDataset

__all__ = ["DATASET", "MVTecLoco"]

_KINDS = ("logical_anomalies", "structural_anomalies")
_SIDES = {
    "breakfast_box": (80, 64), "juice_bottle": (40, 80), "pushpins": (85, 50), "screw_bag": (80, 55),
    "splicing_connectors": (85, 50),
}  # fmt: skip
_DEFECTS = [
    {"defect_name": "missing_part", "pixel_value": 255, "saturation_threshold": 60, "relative_saturation": False},
    {"defect_name": "extra_part", "pixel_value": 254, "saturation_threshold": 0.58, "relative_saturation": True},
    {"defect_name": "damage", "pixel_value": 253, "saturation_threshold": 1.0, "relative_saturation": True},
]


class MVTecLoco(FetchedDataset, name="mvtec_loco"):
    """MVTec LOCO in its official layout; any subset of its categories."""

    title = "MVTec LOCO"
    categories = tuple(_SIDES)
    has_miniature = True

    def available(self, root: Path) -> list[str]:
        """Lists the official categories below ``root``."""
        require_root(root, self.name)
        found = [path.name for path in folders_in(root) if (path / "test" / _KINDS[0]).is_dir()]
        expected = f"no <category>/test/{_KINDS[0]}"
        return known_categories(self.title, self.categories, found or [expected], root)

    def samples(self, root: Path, category: str) -> list[Sample]:
        """Lists the official split; each anomalous image has a folder of masks, one per defect."""
        folder, faults = root / category, Faults()
        try:
            read_defects(folder / DEFECTS)
        except NfbenchError as error:
            faults.add(error)
        samples = [Sample("train", "good", image) for image in faults.images(folder / "train/good")]
        samples += validation_samples(folder / "validation", "good", faults)
        samples += [Sample("test", "good", image) for image in faults.images(folder / "test/good")]
        for kind in _KINDS:
            for image in faults.images(folder / "test" / kind):
                mask = folder / "ground_truth" / kind / image.stem
                if not mask.is_dir():
                    faults.add(f"{image} is anomalous but has no masks; expected {mask}/000.png")
                elif faults.images(mask):
                    samples.append(Sample("test", kind, image, mask))
        return faults.settle(samples)

    def side_files(self, root: Path, category: str) -> list[Path]:
        """Lists all masks and the kinds of defects."""
        masks = [sample.mask for sample in self.samples(root, category) if sample.mask]
        return [root / category / DEFECTS, *(file for mask in masks for file in mask_files(mask))]

    def facts(self, root: Path) -> dict[str, int]:
        """Counts validation images, anomalous images of both kinds, and masks, of each category."""
        found = {}
        for category in self.available(root):
            samples = self.samples(root, category)
            found[f"{category}, validation"] = sum(sample.split == "validation" for sample in samples)
            found |= {f"{category}, {kind}": sum(sample.defect == kind for sample in samples) for kind in _KINDS}
            found[f"{category}, masks"] = sum(len(mask_files(sample.mask)) for sample in samples if sample.mask)
        return found

    def miniature(self, root: Path) -> dict[str, Counts]:
        """Generates all categories in their aspect ratios; logical anomalies have two masks."""
        from nfbench.datasets._miniature import COUNTS, Painter, write_once

        content = json.dumps(_DEFECTS, indent=1)
        for category, (width, height) in _SIDES.items():
            painter, folder = Painter(root, width, height), root / category
            write_once(folder / DEFECTS, lambda temporary: temporary.write_text(content, encoding="utf-8"))
            for split, count in (("train", COUNTS.train), ("validation", 2), ("test", COUNTS.test_normal)):
                for number in range(count):
                    painter.normal(folder / split / "good" / f"{number:03}.png")
            for kind, values in zip(_KINDS, ((255, 254), (253,)), strict=True):
                for number in range(COUNTS.test_anomalous // len(_KINDS)):
                    image = folder / "test" / kind / f"{number:03}.png"
                    masks = folder / "ground_truth" / kind / f"{number:03}"
                    painter.anomalous(image, masks / "000.png", value=values[0])
                    for channel, value in enumerate(values[1:], start=1):
                        painter.marked(masks / f"{channel:03}.png", value)
        return dict.fromkeys(self.categories, COUNTS)


DATASET = MVTecLoco()

"""MVTec 3D-AD, colour images only (Bergmann et al., VISAPP 2022; CC BY-NC-SA 4.0).

<category>/train/good/rgb/000.png
<category>/validation/good/rgb/000.png       normal; not used for training, as in the reproduced papers
<category>/test/<defect>/rgb/000.png
<category>/test/<defect>/gt/000.png          mask, also for normal images; nonzero in defects

10 categories, 2,656 normal training images, 249 normal and 948 anomalous test images, of 400 x 400 to 900 x 900 pixels,
rope of 900 x 400. Point clouds (``xyz``) are not read; defects in shape alone may be invisible in colour.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from nfbench.core.errors import NfbenchError
from nfbench.datasets._base import Counts, Faults, Sample
from nfbench.datasets._layout import is_misspelled, known_categories, require_root, validation_samples
from nfbench.datasets._listing import folders_in
from nfbench.datasets._sources import FetchedDataset

if TYPE_CHECKING:
    from nfbench.datasets._miniature import Painter

__all__ = ["DATASET", "MVTec3D"]

_DEFECTS = ("hole", "contamination")


class MVTec3D(FetchedDataset, name="mvtec_3d"):
    """MVTec 3D-AD without its third dimension; any subset of its categories."""

    title = "MVTec 3D-AD (RGB)"
    categories = ("bagel", "cable_gland", "carrot", "cookie", "dowel", "foam", "peach", "potato", "rope", "tire")
    has_miniature = True

    def available(self, root: Path) -> list[str]:
        """Lists the official categories below ``root``."""
        require_root(root, self.name)
        found = [path.name for path in folders_in(root) if (path / "train/good/rgb").is_dir()]
        return known_categories(self.title, self.categories, found or ["no <category>/train/good/rgb"], root)

    def samples(self, root: Path, category: str) -> list[Sample]:
        """Lists the official training, validation and test images; a missing mask is an error."""
        folder, faults = root / category, Faults()
        samples = [Sample("train", "good", image) for image in faults.images(folder / "train/good/rgb")]
        samples += validation_samples(folder / "validation", "good", faults, "rgb")
        try:
            defects = [path.name for path in folders_in(folder / "test") if (path / "rgb").is_dir()]
        except NfbenchError as error:
            faults.add(error)
            return faults.settle(samples)
        for defect in defects:
            if is_misspelled(defect, "good"):
                faults.add(f"folder {folder / 'test' / defect} is not a defect type; rename it to 'good'")
            for image in faults.images(folder / "test" / defect / "rgb"):
                mask = folder / "test" / defect / "gt" / f"{image.stem}.png"
                is_there = defect != "good" and mask.is_file()
                if defect != "good" and not is_there:
                    faults.add(f"{image} is anomalous but has no mask; expected {mask}")
                samples.append(Sample("test", defect, image, mask if is_there else None))
        if "good" not in defects or len(defects) < 2:
            faults.add(f"folder {folder / 'test'} needs 'good/rgb' and at least one folder of defects")
        return faults.settle(samples)

    def miniature(self, root: Path) -> dict[str, Counts]:
        """Generates all categories, with validation images and point clouds."""
        from nfbench.datasets._miniature import COUNTS, Painter

        for category in self.categories:
            painter = Painter(root, 90, 40) if category == "rope" else Painter(root, 64, 64)
            folder = root / category
            for split, count in (("train", COUNTS.train), ("validation", 2), ("test", COUNTS.test_normal)):
                for number in range(count):
                    painter.normal(folder / split / "good/rgb" / f"{number:03}.png")
                    _point_cloud(folder / split / "good/xyz" / f"{number:03}.tiff", painter)
                    if split == "test":
                        painter.blank(folder / split / "good/gt" / f"{number:03}.png")
            for defect in _DEFECTS:
                for number in range(COUNTS.test_anomalous // len(_DEFECTS)):
                    part, name = folder / "test" / defect, f"{number:03}"
                    painter.anomalous(part / f"rgb/{name}.png", part / f"gt/{name}.png")
                    _point_cloud(part / f"xyz/{name}.tiff", painter)
        return dict.fromkeys(self.categories, COUNTS)


def _point_cloud(path: Path, painter: "Painter") -> None:
    """Writes three floats per pixel."""
    import cv2
    import numpy as np

    from nfbench.datasets._miniature import write_once

    cloud = np.zeros((painter.height, painter.width, 3), np.float32)
    write_once(path, lambda temporary: temporary.write_bytes(cv2.imencode(".tiff", cloud)[1].tobytes()))


DATASET = MVTec3D()

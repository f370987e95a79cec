"""KolektorSDD2, surfaces of one product (Bozic et al., Computers in Industry 2021; CC BY-NC-SA 4.0).

train/10000.png   train/10000_GT.png
test/20000.png    test/20000_GT.png

Images of about 230 x 630 pixels. There are no folders of defect types: an image is anomalous if its mask marks a pixel.
The dataset is made for supervised learning; here, the 246 defective training images are omitted. The archive holds one
image and its mask twice, as ``10301 (copy).png``; copies are omitted.
"""

from pathlib import Path

from nfbench.core.errors import NfbenchError
from nfbench.datasets._base import Counts, Faults, Sample
from nfbench.datasets._images import read_mask
from nfbench.datasets._layout import require_root
from nfbench.datasets._listing import list_images
from nfbench.datasets._sources import FetchedDataset

__all__ = ["DATASET", "KolektorSdd2"]

_MASK = "_GT"
_COPY = "(copy)"


class KolektorSdd2(FetchedDataset, name="kolektor_sdd2"):
    """One category, ``all``."""

    title = "KolektorSDD2"
    categories = ("all",)
    has_miniature = True

    def available(self, root: Path) -> list[str]:
        """Lists the only category if there are images."""
        require_root(root, self.name)
        list_images(root / "train")
        return list(self.categories)

    def samples(self, root: Path, category: str) -> list[Sample]:
        """Lists the official split without defective training images; reads every mask to find these."""
        samples, faults = [], Faults()
        for split in ("train", "test"):
            for image in faults.images(root / split):
                if image.stem.endswith(_MASK) or _COPY in image.name:
                    continue
                mask = image.with_name(f"{image.stem}{_MASK}.png")
                try:
                    defective = read_mask(mask).any()
                except NfbenchError as error:
                    faults.add(error if mask.exists() else f"{image} has no mask; expected {mask}")
                    continue
                if not defective:
                    samples.append(Sample(split, "good", image))
                elif split == "test":
                    samples.append(Sample(split, "defect", image, mask))
        return faults.settle(samples)

    def side_files(self, root: Path, category: str) -> list[Path]:
        """Lists all masks, which determine the normal images."""
        found = [path for split in ("train", "test") for path in Faults().images(root / split)]
        return [path for path in found if path.stem.endswith(_MASK)]

    def miniature(self, root: Path) -> dict[str, Counts]:
        """Generates normal and defective images in both splits, and a copy."""
        from nfbench.datasets._miniature import COUNTS, Painter

        painter = Painter(root, 40, 96)

        def add(folder: Path, first: int, normal: int, defective: int) -> None:
            for number in range(first, first + normal):
                painter.normal(folder / f"{number}.png")
                painter.blank(folder / f"{number}{_MASK}.png")
            for number in range(first + normal, first + normal + defective):
                painter.anomalous(folder / f"{number}.png", folder / f"{number}{_MASK}.png")

        add(root / "train", 10000, COUNTS.train, 2)
        add(root / "test", 20000, COUNTS.test_normal, COUNTS.test_anomalous)
        painter.normal(root / "train" / f"10000 {_COPY}.png")
        painter.blank(root / "train" / f"10000{_MASK} {_COPY}.png")
        return {"all": COUNTS}


DATASET = KolektorSdd2()

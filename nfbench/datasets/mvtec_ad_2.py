"""MVTec AD 2 (Heckler-Kram, Neudeck, Scheler, König, Steger, IJCV 134, 2026; CC BY-NC-SA 4.0).

<category>/train/good/000_regular.png
<category>/validation/good/000_regular.png
<category>/test_public/good/000_<light>.png
<category>/test_public/bad/000_<light>.png
<category>/test_public/ground_truth/bad/000_<light>_mask.png
<category>/test_private/000_regular.png             without labels
<category>/test_private_mixed/000_mixed.png         without labels; the same scenes in other lights

8 categories, 2,528 training and 302 validation images, 379 normal and 705 anomalous public test images, and twice 2,045
private ones, whose labels only the benchmark's server knows. Images of sheet_metal, vial and wallplugs are grey. Public
test images show each scene (the number in the name) in four to seven lights, so they are not independent.
"""

from collections.abc import Sequence
from pathlib import Path

from nfbench.datasets._base import Counts, Faults, Sample
from nfbench.datasets._layout import known_categories, masked_samples, require_root
from nfbench.datasets._listing import folders_in
from nfbench.datasets._sources import FetchedDataset

__all__ = ["DATASET", "PRIVATE", "PRIVATE_IMAGES", "MVTecAD2"]

PRIVATE = ("test_private", "test_private_mixed")
"""Folders of test images without labels."""

PRIVATE_IMAGES = 3
"""Number of images in each of these folders of a miniature."""

_GREY = ("sheet_metal", "vial", "wallplugs")
_LIGHTS = ("regular", "overexposed")
_SIDES = {
    "can": (88, 40), "fabric": (72, 60), "fruit_jelly": (84, 60), "rice": (72, 60), "sheet_metal": (160, 40),
    "vial": (56, 76), "wallplugs": (72, 60), "walnuts": (72, 60),
}  # fmt: skip


class MVTecAD2(FetchedDataset, name="mvtec_ad_2"):
    """MVTec AD 2 in its official layout; any subset of its categories. Public test images have labels."""

    title = "MVTec AD 2"
    categories = tuple(_SIDES)
    has_miniature = True

    def available(self, root: Path) -> list[str]:
        """Lists the official categories below ``root``."""
        require_root(root, self.name)
        found = [path.name for path in folders_in(root) if (path / "test_public").is_dir()]
        return known_categories(self.title, self.categories, found or ["no <category>/test_public"], root)

    def samples(self, root: Path, category: str) -> list[Sample]:
        """Lists training, validation and public test images, then private images; these may be missing."""
        folder, faults = root / category, Faults()
        public = folder / "test_public"
        samples = [Sample("train", "good", image) for image in faults.images(folder / "train/good")]
        samples += [Sample("validation", "good", image) for image in faults.images(folder / "validation/good")]
        samples += [Sample("test", "good", image) for image in faults.images(public / "good")]
        samples += masked_samples("bad", public / "bad", public / "ground_truth/bad", faults)
        for name in PRIVATE:
            if (folder / name).is_dir():
                samples += [Sample("unlabelled", name, image) for image in faults.images(folder / name)]
        return faults.settle(samples)

    def facts(self, root: Path) -> dict[str, int]:
        """Counts validation and private images of each category."""
        found = {}
        for category in self.available(root):
            samples = self.samples(root, category)
            found[f"{category}, validation"] = sum(sample.split == "validation" for sample in samples)
            found |= {f"{category}, {name}": sum(sample.defect == name for sample in samples) for name in PRIVATE}
        return found

    def miniature(self, root: Path) -> dict[str, Counts]:
        """Generates all categories in their aspect ratios, grey ones with one channel."""
        from nfbench.datasets._miniature import COUNTS, Painter

        for category, (width, height) in _SIDES.items():
            painter, folder = Painter(root, width, height, grey=category in _GREY), root / category
            for split, count in (("train", COUNTS.train), ("validation", 2)):
                for number in range(count):
                    painter.normal(folder / split / "good" / f"{number:03}_regular.png")
            public = folder / "test_public"
            for name in _scenes(COUNTS.test_normal):
                painter.normal(public / "good" / f"{name}.png")
            for name in _scenes(COUNTS.test_anomalous):
                painter.anomalous(public / "bad" / f"{name}.png", public / "ground_truth/bad" / f"{name}_mask.png")
            for part, light in zip(PRIVATE, ("regular", "mixed"), strict=True):
                for number in range(PRIVATE_IMAGES):
                    path = folder / part / f"{number:03}_{light}.png"
                    painter.anomalous(path) if number == 0 else painter.normal(path)
        return dict.fromkeys(self.categories, COUNTS)


def _scenes(count: int) -> Sequence[str]:
    """Returns the stems of ``count`` images that show each scene in two lights."""
    return [f"{number:03}_{light}" for number in range(count // len(_LIGHTS)) for light in _LIGHTS]


DATASET = MVTecAD2()

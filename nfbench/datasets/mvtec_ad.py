"""MVTec AD, read from the user's folder (Bergmann et al., CVPR 2019; CC BY-NC-SA 4.0).

15 categories, 3,629 normal training images, 467 normal and 1,258 anomalous test images with pixel masks. Images of
grid, screw and zipper are grey; readers give all images three channels.
"""

from pathlib import Path

from nfbench.datasets.base import Counts, Sample
from nfbench.datasets.layout import known_categories, layout_categories, layout_samples
from nfbench.datasets.sources import FetchedDataset

__all__ = ["DATASET", "MVTecAD"]

_TEXTURES = ("carpet", "grid", "leather", "tile", "wood")
_OBJECTS = (
    "bottle", "cable", "capsule", "hazelnut", "metal_nut", "pill", "screw", "toothbrush", "transistor", "zipper",
)  # fmt: skip
_GREY = ("grid", "screw", "zipper")


class MVTecAD(FetchedDataset, name="mvtec_ad"):
    """MVTec AD in its official layout; any subset of its categories."""

    title = "MVTec AD"
    categories = _TEXTURES + _OBJECTS
    has_miniature = True

    def available(self, root: Path) -> list[str]:
        """Official categories that lie below ``root``, in the official order: textures, then objects."""
        return known_categories(self.title, self.categories, layout_categories(root, self.name), root)

    def samples(self, root: Path, category: str) -> list[Sample]:
        """The official split; a missing mask is an error."""
        return layout_samples(root, category, masks_required=True)

    def miniature(self, root: Path) -> dict[str, Counts]:
        """All categories, grey ones in one channel."""
        from nfbench.datasets.miniature import Painter, make_layout

        painters = {category: Painter(root, 64, 64, grey=category in _GREY) for category in self.categories}
        return {category: make_layout(painter, category) for category, painter in painters.items()}


DATASET = MVTecAD()

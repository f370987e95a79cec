"""MVTec AD, read from the user's folder (Bergmann et al., CVPR 2019; CC BY-NC-SA 4.0).

15 categories, 3,629 normal training images, 467 normal and 1,258 anomalous test images with pixel masks. Images of
grid, screw and zipper are grey; readers give all images three channels.
"""

from pathlib import Path

from nfbench.datasets._base import Counts
from nfbench.datasets._layout import LayoutDataset
from nfbench.datasets._sources import FetchedDataset

__all__ = ["DATASET", "MVTecAD"]

_TEXTURES = ("carpet", "grid", "leather", "tile", "wood")
_OBJECTS = (
    "bottle", "cable", "capsule", "hazelnut", "metal_nut", "pill", "screw", "toothbrush", "transistor", "zipper",
)  # fmt: skip
_GREY = ("grid", "screw", "zipper")


class MVTecAD(LayoutDataset, FetchedDataset, name="mvtec_ad"):
    """MVTec AD in its official layout; any subset of its categories."""

    title = "MVTec AD"
    categories = _TEXTURES + _OBJECTS
    has_miniature = True

    def miniature(self, root: Path) -> dict[str, Counts]:
        """Generates all categories, grey ones with one channel."""
        from nfbench.datasets._miniature import Painter, make_layout

        painters = {category: Painter(root, 64, 64, grey=category in _GREY) for category in self.categories}
        return {category: make_layout(painter, category) for category, painter in painters.items()}


DATASET = MVTecAD()

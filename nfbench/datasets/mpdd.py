"""MPDD, painted metal parts (Jezek et al., ICUMT 2021): 6 categories in MVTec AD's layout.

888 normal training images, 176 normal and 282 anomalous test images of 1024 x 1024 pixels, with pixel masks.
"""

from pathlib import Path

from nfbench.datasets._base import Counts
from nfbench.datasets._layout import LayoutDataset
from nfbench.datasets._sources import FetchedDataset

__all__ = ["DATASET", "Mpdd"]

_DEFECTS = {
    "bracket_black": ("hole", "scratches"),
    "bracket_brown": ("bend_and_parts_mismatch", "parts_mismatch"),
    "bracket_white": ("defective_painting", "scratches"),
    "connector": ("parts_mismatch",),
    "metal_plate": ("major_rust", "scratches", "total_rust"),
    "tubes": ("anomalous",),
}


class Mpdd(LayoutDataset, FetchedDataset, name="mpdd"):
    """MPDD as published; any subset of its categories."""

    title = "MPDD"
    categories = tuple(_DEFECTS)
    has_miniature = True

    def miniature(self, root: Path) -> dict[str, Counts]:
        """Generates all categories with the names of their defect types."""
        from nfbench.datasets._miniature import Painter, make_layout

        painter = Painter(root, 64, 64)
        return {category: make_layout(painter, category, defects=kinds) for category, kinds in _DEFECTS.items()}


DATASET = Mpdd()

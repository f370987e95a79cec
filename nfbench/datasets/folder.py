"""Any folder in MVTec AD's layout, with mixed image formats; masks and test images are optional."""

from pathlib import Path

from nfbench.datasets._base import Counts
from nfbench.datasets._layout import LayoutDataset

__all__ = ["DATASET", "Folder"]


class Folder(LayoutDataset):
    """Your own images. Without a ``ground_truth`` folder, there are no pixel metrics.

    Normal or anomalous test images may be missing, or both; metrics that need them are undefined.
    """

    title = "own folder"
    licence = "the user's"
    citation = "none"
    source = "a folder with <category>/train/good and, optionally, validation/good, test/good and test/<defect>"
    masks_required = False
    needs_tests = False
    has_miniature = True
    miniature_categories = ("part",)

    def miniature(self, root: Path) -> dict[str, Counts]:
        """Generates one category with masks."""
        from nfbench.datasets._miniature import Painter, make_layout

        return {"part": make_layout(Painter(root), "part")}


DATASET = Folder()

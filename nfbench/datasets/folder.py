"""Any directory in MVTec AD's layout, with mixed image endings, with or without masks; normal images are enough."""

from pathlib import Path

from nfbench.datasets._base import Counts
from nfbench.datasets._layout import LayoutDataset

__all__ = ["DATASET", "Folder"]


class Folder(LayoutDataset):
    """The user's own images. Without a ``ground_truth`` folder there are no pixel metrics.

    Test images may be missing, all of them or those of one kind: metrics that need them are undefined.
    """

    title = "own folder"
    licence = "the user's"
    citation = "none"
    source = "a folder with <category>/train/good, and where there are any validation/good, test/good and test/<defect>"
    masks_required = False
    needs_tests = False
    has_miniature = True
    miniature_categories = ("part",)

    def miniature(self, root: Path) -> dict[str, Counts]:
        """One category, with masks."""
        from nfbench.datasets._miniature import Painter, make_layout

        return {"part": make_layout(Painter(root), "part")}


DATASET = Folder()

"""BTAD, three industrial products (Mishra et al., ISIE 2021).

<category>/train/ok/0000.bmp
<category>/test/{ok,ko}/0000.bmp
<category>/ground_truth/ko/0000.png

A mask has the stem of its image; endings differ. In 01, images are ``.bmp`` and masks ``.png``; in 02, both are
``.png``; in 03, both are ``.bmp``. Image sizes are 1600 x 1600, 600 x 600 and 800 x 600. Some masks mark no pixel;
their images still count as anomalous, and ``data check`` lists them.
"""

from functools import partial
from pathlib import Path

from nfbench.datasets._base import Counts
from nfbench.datasets._layout import LayoutDataset
from nfbench.datasets._sources import FetchedDataset

__all__ = ["DATASET", "Btad"]


class Btad(LayoutDataset, FetchedDataset, name="btad"):
    """BTAD as published; any subset of its categories."""

    title = "BTAD"
    categories = ("01", "02", "03")
    normal = "ok"
    has_miniature = True

    def miniature(self, root: Path) -> dict[str, Counts]:
        """Generates all categories with their endings; one mask of 03 marks no pixel."""
        from nfbench.datasets._miniature import Painter, make_layout

        square, make = Painter(root, 64, 64), partial(make_layout, normal=self.normal, defects=("ko",), digits=4)
        return {
            "01": make(square, "01", ending=".bmp", mask_ending=".png"),
            "02": make(square, "02", ending=".png", mask_ending=".png"),
            "03": make(Painter(root), "03", ending=".bmp", mask_ending=".bmp", blank_masks=1),
        }


DATASET = Btad()

"""Any directory in MVTec AD's layout, with mixed image endings, with or without masks."""

from pathlib import Path

from nfbench.datasets.base import Dataset, Sample
from nfbench.datasets.layout import layout_categories, layout_samples

__all__ = ["DATASET", "Folder"]


class Folder(Dataset):
    """The user's own images. Without a ``ground_truth`` folder there are no pixel metrics."""

    title = "own folder"
    licence = "the user's"
    citation = "none"
    source = "a folder with <category>/train/good, <category>/test/good and <category>/test/<defect>"

    def available(self, root: Path) -> list[str]:
        """All folders below ``root`` that have normal training images."""
        return layout_categories(root)

    def samples(self, root: Path, category: str) -> list[Sample]:
        """All images; masks where there is a ``ground_truth`` folder."""
        return layout_samples(root, category, masks_required=False)


DATASET = Folder()

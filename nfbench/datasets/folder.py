"""Any directory in MVTec AD's layout, with mixed image endings, with or without masks."""

from nfbench.datasets._layout import LayoutDataset

__all__ = ["DATASET", "Folder"]


class Folder(LayoutDataset):
    """The user's own images. Without a ``ground_truth`` folder there are no pixel metrics."""

    title = "own folder"
    licence = "the user's"
    citation = "none"
    source = "a folder with <category>/train/good, <category>/test/good and <category>/test/<defect>"
    masks_required = False


DATASET = Folder()

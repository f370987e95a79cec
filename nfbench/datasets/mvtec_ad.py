"""MVTec AD, read from the user's folder (Bergmann et al., CVPR 2019; CC BY-NC-SA 4.0).

15 categories, 3,629 normal training images, 467 normal and 1,258 anomalous test images with pixel masks.
"""

from pathlib import Path

from nfbench.datasets.base import Dataset, Sample
from nfbench.datasets.layout import layout_categories, layout_samples
from nfbench.errors import NfbenchError

__all__ = ["DATASET", "MVTecAD"]

_TEXTURES = ("carpet", "grid", "leather", "tile", "wood")
_OBJECTS = (
    "bottle", "cable", "capsule", "hazelnut", "metal_nut", "pill", "screw", "toothbrush", "transistor", "zipper",
)  # fmt: skip


class MVTecAD(Dataset):
    """MVTec AD in its official layout; any subset of its categories."""

    title = "MVTec AD"
    licence = "CC BY-NC-SA 4.0"
    citation = "Bergmann, Fauser, Sattlegger, Steger: MVTec AD, CVPR 2019"
    source = "https://www.mvtec.com/company/research/datasets/mvtec-ad"
    categories = _TEXTURES + _OBJECTS

    def available(self, root: Path) -> list[str]:
        """Official categories that lie below ``root``, in the official order: textures, then objects."""
        found = layout_categories(root)
        known = [category for category in self.categories if category in found]
        if not known:
            raise NfbenchError(f"folder {root} has none of MVTec AD's categories, only {', '.join(found)}")
        return known

    def samples(self, root: Path, category: str) -> list[Sample]:
        """The official split; a missing mask is an error."""
        return layout_samples(root, category, masks_required=True)


DATASET = MVTecAD()

"""Shifts of test images: light, blur, noise and rotation at stated strengths, before an image is resized.

The direction of a shift and its noise follow from the hash of the image file, not from the strength; see
``nfbench.config.conditions``. A rotated mask has the same geometry as its image, by the nearest pixel.
"""

import math
from typing import TYPE_CHECKING

from nfbench.config import condition_of
from nfbench.core.provenance import derive_seed

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

__all__ = ["shift_image", "shift_mask"]


def shift_image(image: "Image.Image", shift: str, sha256: str) -> "Image.Image":
    """Changes an RGB image.

    Args:
        image: the image.
        shift: name of the shift; empty returns the image itself.
        sha256: hash of the image file.
    """
    if not shift:
        return image
    import numpy as np
    from PIL import Image, ImageFilter

    found = condition_of(shift)
    if found.axis == "blur":
        return image.filter(ImageFilter.GaussianBlur(found.strength / 100 * min(image.size)))
    if found.axis == "rotation":
        return _rotated(image, found.strength * _sign(found.axis, sha256), Image.Resampling.BICUBIC)
    values = np.asarray(image).astype(np.float32)
    if found.axis == "light":
        values *= 2 ** (found.strength * _sign(found.axis, sha256))
    else:
        rng = np.random.default_rng(derive_seed("shift", found.axis, sha256))
        values += found.strength * rng.standard_normal(values.shape, dtype=np.float32)
    return Image.fromarray(values.round().clip(0, 255).astype(np.uint8))


def shift_mask(mask: "np.ndarray", shift: str, sha256: str) -> "np.ndarray":
    """Changes the mask ``(H, W)`` bool of an image with this hash as ``shift_image`` changes the image."""
    if not shift or condition_of(shift).axis != "rotation":
        return mask
    import numpy as np
    from PIL import Image

    degrees = condition_of(shift).strength * _sign("rotation", sha256)
    drawn = Image.fromarray(mask.astype(np.uint8) * 255)
    return np.asarray(_rotated(drawn, degrees, Image.Resampling.NEAREST)) > 0


def _sign(axis: str, sha256: str) -> int:
    return 1 if derive_seed("shift", axis, sha256) % 2 else -1


def _rotated(image: "Image.Image", degrees: float, filter_of: "Image.Resampling") -> "Image.Image":
    """Rotates an image about its centre at the same size; what lies beyond the border is mirrored."""
    import numpy as np
    from PIL import Image

    width, height = image.size
    margin = math.ceil((math.hypot(width, height) - min(width, height)) / 2) + 2
    values = np.asarray(image)
    padded = np.pad(values, [(margin, margin)] * 2 + [(0, 0)] * (values.ndim - 2), mode="symmetric")
    turned = Image.fromarray(padded).rotate(degrees, filter_of)
    return turned.crop((margin, margin, margin + width, margin + height))

"""CutPaste: a patch of the image pasted elsewhere (Li et al., CVPR 2021, arXiv 2104.04015), the plain variant.

The authors published no code. Values are those of the paper: the patch covers 2 to 15 % of the image, one side is up to
3.3 times the other, and its colours are jittered by up to 10 %.
"""

import math

import numpy as np
from PIL import Image

from nfbench.anomalies._base import AnomalyGenerator, Synthetic, crop_patch, jitter_colors, random_corner
from nfbench.core.input_size import InputSize, Sides

__all__ = ["GENERATOR", "CutPaste", "draw_patch_shape"]

AREA = (0.02, 0.15)
"""Range of the patch's share of the image."""
ASPECTS = ((0.3, 1.0), (1.0, 3.3))
"""Ranges of width over height, used equally often."""
JITTER = 0.1


class CutPaste(AnomalyGenerator):
    """A rectangle of the image, in slightly other colours, pasted at a random place with hard edges; never clean."""

    title = "CutPaste"

    def __call__(self, index: int, seed: int) -> Synthetic:
        """Return a variant of the normal image ``index``."""
        rng = self.random(index, seed)
        image = self.read_normal(index)
        shape = draw_patch_shape(self.size, rng)
        patch = jitter_colors(crop_patch(image, shape, rng), JITTER, rng)
        corner = random_corner(image.size, shape, rng)
        mask = Image.new("L", image.size)
        mask.paste(255, (*corner, corner[0] + shape[0], corner[1] + shape[1]))
        image.paste(patch, corner)
        return Synthetic(np.array(image), np.array(mask))


def draw_patch_shape(size: Sides, rng: np.random.Generator) -> tuple[int, int]:
    """Return width and height of a patch in pixels, for an image of this size.

    In an image that is not square, the aspect ratio is limited so that the patch fits; its area stays in ``AREA``.
    """
    height, width = InputSize.of(size)
    area = rng.uniform(*AREA) * (height * width)
    aspect = min(max(rng.uniform(*ASPECTS[rng.integers(2)]), area / height**2), width**2 / area)
    return max(1, round(math.sqrt(area * aspect))), max(1, round(math.sqrt(area / aspect)))


GENERATOR = CutPaste

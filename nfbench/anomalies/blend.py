"""SANFlow's pseudo-anomalies: a part of another image blended in, or a small scar (Kim et al., NeurIPS 2023).

Compared with the description of kdhRick2222/SANFlow at 0146283. Each call leaves the image clean, blends another one in
below a soft rectangle or circle, or pastes a scar of the image itself, each with a probability of 1/4.

Deliberate deviations: masks are drawn when they are needed, by the rules of the scripts that draw the repository's two
sets of 10 000. The strength of the colour jitter, which the repository draws once for each run, is drawn once for each
set of normal images, so that runs with different seeds see the same kind of images. Blending happens on bytes, before
the normalization, which differs by rounding alone.
"""

from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageFilter, ImageOps

from nfbench.anomalies._base import AnomalyGenerator, Synthetic, crop_patch, jitter_colors, random_corner
from nfbench.core.input_size import Sides
from nfbench.core.provenance import derive_seed
from nfbench.datasets._manifest import Entry, read_checked_image

__all__ = ["GENERATOR", "BlendAndScar", "draw_circle", "draw_rectangle", "draw_scar_mask"]

CANVAS = 128
"""Side in pixels of the canvas that masks of blends are drawn on."""
_LARGEST_JITTER = 0.2
_DONOR_SCALE = 1.5


class BlendAndScar(AnomalyGenerator):
    """Clean images, rectangle blends, circle blends and scars in equal shares.

    Attributes:
        jitter: strength of the colour jitter in [0, 0.2), which follows from the hashes of the normal images.
    """

    title = "SANFlow's blends and scars"

    def __init__(self, normals: Sequence[Entry], anomalies: Sequence[Entry], size: Sides) -> None:
        super().__init__(normals, anomalies, size)
        seed = derive_seed("jitter", *sorted(entry.sha256 for entry in normals))
        self.jitter = _LARGEST_JITTER * np.random.default_rng(seed).random()

    def __call__(self, index: int, seed: int) -> Synthetic:
        """Return a variant of the normal image ``index``."""
        rng = self.random(index, seed)
        image = self.read_normal(index)
        case = rng.random()
        if case < 0.25:
            return Synthetic(np.array(image), np.zeros(self.size, dtype=np.uint8))
        if case < 0.5:
            return self._blend(image, draw_rectangle, rng)
        if case < 0.75:
            return self._blend(image, draw_circle, rng)
        return self._scar(image, rng)

    def _blend(
        self, image: Image.Image, draw_mask: Callable[[np.random.Generator], Image.Image], rng: np.random.Generator
    ) -> Synthetic:
        drawn = _flip(draw_mask(rng).filter(ImageFilter.BLUR), rng)
        mask = np.array(self._placed(drawn.resize((self.size.shorter,) * 2, Image.Resampling.BICUBIC), rng))
        normal = np.asarray(image, dtype=np.float32)
        donor = np.asarray(self._donor(rng), dtype=np.float32)
        weight = mask[..., None].astype(np.float32) / 255
        return Synthetic(np.rint(normal + weight * (donor - normal)).astype(np.uint8), mask)

    def _placed(self, mask: Image.Image, rng: np.random.Generator) -> Image.Image:
        """Return a square mask at a random place along the longer side of the image; a square image needs none."""
        if self.size.is_square:
            return mask
        placed = Image.new("L", self.size.width_height)
        placed.paste(mask, random_corner(placed.size, mask.size, rng))
        return placed

    def _donor(self, rng: np.random.Generator) -> Image.Image:
        """Return a part of any normal image, enlarged, flipped and in other colours."""
        image = read_checked_image(self.normals[rng.integers(len(self.normals))])
        width, height = self.size.width_height
        image = image.resize((round(_DONOR_SCALE * width), round(_DONOR_SCALE * height)), Image.Resampling.BILINEAR)
        return jitter_colors(_flip(crop_patch(image, (width, height), rng), rng), self.jitter, rng)

    def _scar(self, image: Image.Image, rng: np.random.Generator) -> Synthetic:
        (width, height), angle, alpha = draw_scar_mask(self.size.shorter, rng)
        patch = jitter_colors(crop_patch(image, (width, height), rng), self.jitter, rng)
        patch = patch.rotate(angle, Image.Resampling.NEAREST, expand=True)
        corner = random_corner(image.size, alpha.size, rng)
        mask = Image.new("L", image.size)
        mask.paste(alpha, corner)
        image.paste(patch, corner, alpha)
        return Synthetic(np.array(image), np.array(mask))


def draw_rectangle(rng: np.random.Generator) -> Image.Image:
    """A rectangle of 8 to 22 by 32 to 127 pixels, turned by any angle, anywhere inside of a canvas of 128 pixels.

    Rectangles that do not fit in are drawn again.
    """
    while True:
        shape = int(rng.integers(CANVAS // 16, CANVAS // 4 - 9)), int(rng.integers(CANVAS // 4, CANVAS))
        turned = Image.new("L", shape, 255).rotate(rng.uniform(-90, 90), Image.Resampling.NEAREST, expand=True)
        if max(turned.size) <= CANVAS:
            canvas = Image.new("L", (CANVAS, CANVAS))
            canvas.paste(turned, random_corner(canvas.size, turned.size, rng))
            return canvas


def draw_circle(rng: np.random.Generator) -> Image.Image:
    """A disc on a canvas of 128 pixels: radius 10 to 15, row and column of the centre 10 to 118, none of them whole.

    Pixels are inside if their centre is at most the radius away.
    """
    radius = rng.uniform(10, 15)
    x, y = rng.uniform(10, CANVAS - 10, 2)
    rows, columns = np.ogrid[:CANVAS, :CANVAS]
    return Image.fromarray(255 * (np.hypot(rows - y, columns - x) <= radius).astype(np.uint8))


def draw_scar_mask(size: int, rng: np.random.Generator) -> tuple[tuple[int, int], float, Image.Image]:
    """A thin rectangle, turned by up to 45 degrees; at 256 pixels its sides are 4 to 32 (width) by 2 to 16 (height).

    Returns:
        (width, height) before the turn, the angle in degrees, and the turned rectangle: 255 inside of it, 0 around it.
    """
    while True:
        height = int(rng.integers(max(1, size // 128), size // 16, endpoint=True))
        width = int(rng.integers(max(1, size // 64), size // 8, endpoint=True))
        angle = rng.uniform(-45, 45)
        alpha = Image.new("L", (width, height), 255).rotate(angle, Image.Resampling.NEAREST, expand=True)
        if alpha.getbbox():  # rotation can lose a rectangle of one pixel
            return (width, height), angle, alpha


def _flip(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    mirrored, upended = rng.random(2) < 0.5
    image = ImageOps.mirror(image) if mirrored else image
    return ImageOps.flip(image) if upended else image


GENERATOR = BlendAndScar

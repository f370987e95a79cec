"""RIAD: inpainting of hidden cells of an image from the other cells (Zavrtanik et al., Pattern Recognition 2021).

There is no official code; network, masks and losses follow the description of
plutoyuxie/Reconstruction-by-inpainting-for-visual-anomaly-detection at 7c0aaf9.
Score: dissimilarity of the edges of image and inpainted image, one minus their gradient magnitude similarity (GMS) at
    four scales, summed over cell sizes; the image score is the maximum of the map.

Deliberate deviations: ``epochs`` is fixed; the repository stops early on held-out images. The cells hidden together are
    drawn once for scoring, so scores are reproducible and do not depend on the batch. SSIM mirrors borders; the
    repository pads with zeros. Its map is lower by a constant, which changes no metric.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from nfbench.blocks.features import Features
from nfbench.blocks.maps import ImageRule, resize_maps, smooth
from nfbench.blocks.method import Batch, Method, Scores, Tiny
from nfbench.blocks.pixels import Pixels
from nfbench.blocks.settings import Milestones, Schedule, TrainedSettings
from nfbench.blocks.ssim import ssim
from nfbench.config import Choices, Range
from nfbench.core.errors import NfbenchError

__all__ = ["METHOD", "Riad", "RiadSettings", "UNet", "edge_similarities", "median_of_neighbors"]

MEMORY = {"parameters": 0, "network": 2.9e7, "pixels": 4000}
"""See ``nfbench.plan.memory``."""

_SETS = 3
_SCALES = 4
_EDGE_CONSTANT = 0.0026
_SMALLEST = 1e-12


class RiadSettings(TrainedSettings):
    """Defaults of the repository (train.py, test.py), at 256 pixels."""

    epochs: int = Field(300, ge=0, description="passes over the training images")
    batch_size: int = Field(4, ge=1, description="images per step")
    lr: float = Field(1e-4, gt=0, description="learning rate of Adam")
    weight_decay: float = Field(1e-5, ge=0, description="L2 penalty of Adam")
    schedule: Schedule = "step"
    milestones: Milestones = (250 / 300,)
    cell_sizes: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (2, 4, 8, 16), min_length=1, description="sides of the hidden cells in pixels; each step draws one"
    )
    edge_weight: float = Field(
        1.0, ge=0, description="weight of the dissimilarity of edges, relative to the squared error"
    )
    ssim_weight: float = Field(1.0, ge=0, description="weight of 1 - SSIM, relative to the squared error")
    smoothing: float = Field(7.0, ge=0, description="sigma of a Gaussian on the anomaly map, in pixels")
    width: int = Field(64, ge=1, description="channels of the outer layers; the inner ones have up to 8 times as many")


class UNet(nn.Module):
    """A U-Net on images ``(B, 3, H, W)`` in [-1, 1]; 16 divides both sides."""

    def __init__(self, width: int) -> None:
        super().__init__()
        widths = [width, 2 * width, 4 * width, 8 * width, 8 * width]
        self.down = nn.ModuleList([_block(3, width, 3)])
        self.up = nn.ModuleList()
        self.merge = nn.ModuleList()
        for outer, inner in pairwise(widths):
            self.down.append(_block(outer, inner, 4))
            self.up.insert(0, nn.ConvTranspose2d(inner, outer, 4, 2, 1))
            self.merge.insert(0, _block(2 * outer, outer, 3))
        self.final = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """The reconstruction."""
        outputs = []
        for down in self.down:
            x = down(x)
            outputs.append(x)
        for up, merge, skipped in zip(self.up, self.merge, outputs[-2::-1], strict=True):
            x = merge(torch.cat([up(x), skipped], dim=1))
        return self.final(x).tanh()


class Riad(Method):
    """A U-Net that never sees the pixels it predicts: three passes, each with another third of the cells zeroed."""

    title = "RIAD"
    image_rule: ClassVar[ImageRule] = "max"
    settings_type = RiadSettings
    settings: RiadSettings
    tiny = Tiny({"width": 4, "cell_sizes": (2, 8), "smoothing": 1.0, "milestones": (0.3,)}, shapes=())
    takes_levels = False
    takes_image = True
    search_space = {
        "lr": Range(low=1e-5, high=1e-2, log=True),
        "edge_weight": Range(low=0.1, high=10.0, log=True),
        "ssim_weight": Range(low=0.1, high=10.0, log=True),
        "width": Choices(choices=(16, 32, 64)),
    }

    def build(self, generator: torch.Generator) -> None:
        """Build the network, and draw the sets of cells for scoring."""
        for size in (2**_SCALES, *self.settings.cell_sizes):
            if any(side % size for side in self.map_size):
                other = next(side for side in self.map_size if side % size)
                raise NfbenchError(
                    f"method 'riad' needs images whose sides 16 and 'cell_sizes' divide, and {other} is no multiple of "
                    f"{size}; change 'input_size' of the backbone"
                )
        self.network = UNet(self.settings.width)
        self.pixels = Pixels("image")
        for size in self.settings.cell_sizes:
            sets = self.draw_sets(size, generator).to(torch.get_default_device())
            self.register_buffer(f"sets{size}", sets)

    def draw_sets(self, size: int, generator: torch.Generator) -> Tensor:
        """Assign cells of ``size`` pixels at random to three nearly equal sets: set numbers, uint8 ``(n, m)``."""
        rows, columns = (side // size for side in self.map_size)
        order = torch.randperm(rows * columns, generator=generator, device=generator.device)
        return (order % _SETS).to(torch.uint8).view(rows, columns)

    def losses(self, batch: Batch, generator: torch.Generator) -> Iterator[Tensor]:
        """Yield one loss, for random sets of cells of a random size."""
        # draw sets for all sizes and index on the GPU; reading the index would make the CPU wait
        choices = torch.stack([self._pixels(self.draw_sets(size, generator)) for size in self.settings.cell_sizes])
        number = torch.randint(choices.shape[0], (1,), generator=generator, device=generator.device)
        images = self._images(batch.features)
        inpainted = self.inpaint(images, choices[number])
        edges = torch.stack([1 - level.mean() for level in edge_similarities(images, inpainted)]).mean()
        similarity = ssim(images, inpainted).mean()
        settings = self.settings
        squared = functional.mse_loss(inpainted, images)
        yield squared + settings.edge_weight * edges + settings.ssim_weight * (1 - similarity)

    def inpaint(self, images: Tensor, sets: Tensor) -> Tensor:
        """Predict each pixel from the image with the pixels of its set set to zero.

        Args:
            images: ``(B, 3, H, W)`` in [-1, 1].
            sets: number of the set of each pixel, ``(H, W)`` or ``(1, H, W)``.

        Returns:
            ``(B, 3, H, W)``.
        """
        found = torch.zeros_like(images)
        for number in range(_SETS):
            hidden = (sets == number).to(images.dtype)
            found = found + self.network(images * (1 - hidden)) * hidden
        return found

    def score(self, features: Features[Tensor]) -> Scores:
        """Return the dissimilarity of edges, summed over sizes with weights 1 / number of cells, and its maximum."""
        images = self._images(features)
        total = torch.zeros_like(images[:, 0])
        for size in self.settings.cell_sizes:
            sets = self.get_buffer(f"sets{size}")
            similarities = edge_similarities(images, self.inpaint(images, self._pixels(sets)))
            total = total + (1 - resize_maps(similarities, self.map_size).mean(0)) / sets.numel()
        maps = smooth(total, self.settings.smoothing)
        return Scores(maps, maps.flatten(1).amax(1))

    def parameter_groups(self) -> dict[str, Sequence[nn.Parameter]]:
        """Return all parameters, under the network."""
        return {"network": list(self.network.parameters())}

    def _images(self, features: Features[Tensor]) -> Tensor:
        """The images in [-1, 1]."""
        return self.pixels.of(features.required_image) * 2 - 1

    def _pixels(self, sets: Tensor) -> Tensor:
        """Expand sets of cells ``(n, m)`` to sets of pixels ``(H, W)``."""
        size = self.map_size[0] // sets.shape[0]
        return sets[:, None, :, None].expand(-1, size, -1, size).reshape(self.map_size)


def edge_similarities(x: Tensor, y: Tensor) -> list[Tensor]:
    """Gradient magnitude similarity of two images at four scales, each half the size of the previous one.

    ``(2 a b + c) / (a^2 + b^2 + c)`` for gradient magnitudes ``a`` and ``b`` from Prewitt's operator on the colour
    mean, after a median filter.

    Args:
        x: images ``(B, 3, H, W)``.
        y: as ``x``.

    Returns:
        Maps ``(B, S_l - 2, S_l - 2)``, at most 1.
    """
    x, y, found = x.mean(1), y.mean(1), []
    for scale in range(_SCALES):
        if scale:
            x, y = (functional.avg_pool2d(image, 2) for image in (x, y))
        a, b = _squared_magnitude(x), _squared_magnitude(y)
        found.append((2 * (a * b).sqrt() + _EDGE_CONSTANT) / (a + b + _EDGE_CONSTANT))
    return found


def _squared_magnitude(x: Tensor) -> Tensor:
    """Squared gradient of ``(B, H, W)`` after a 3 x 3 median filter, ``(B, H - 2, W - 2)``."""
    x = median_of_neighbors(x)
    (above, row, below), (left, column, right) = _shifted(x, 1), _shifted(x, 2)
    first, _, last = _shifted(above + row + below, 2)
    upper, _, lower = _shifted(left + column + right, 1)
    return ((last - first).square() + (lower - upper).square()) / 9 + _SMALLEST  # the square root has no gradient at 0


def median_of_neighbors(x: Tensor) -> Tensor:
    """Return the 3 x 3 median around each pixel of ``(B, H, W)``, with zeros outside.

    It uses minima and maxima, because the gradient of torch's median is not deterministic on a GPU. For three sorted
    columns, the median is the median of the largest minimum, the median of the medians, and the smallest maximum.
    """
    low, middle, high = _sorted(*_shifted(functional.pad(x, (1, 1, 1, 1)), 1))
    return _sorted(_sorted(*_shifted(low, 2))[2], _sorted(*_shifted(middle, 2))[1], _sorted(*_shifted(high, 2))[0])[1]


def _sorted(a: Tensor, b: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the elementwise minimum, median and maximum."""
    low, high = torch.minimum(a, b), torch.maximum(a, b)
    return torch.minimum(low, c), torch.maximum(low, torch.minimum(high, c)), torch.maximum(high, c)


def _shifted(x: Tensor, axis: int) -> list[Tensor]:
    """Three shifted views along an axis, each shorter than ``x`` by two."""
    length = x.shape[axis] - 2
    return [x.narrow(axis, start, length) for start in range(3)]


def _block(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    """Two convolutions; the first halves the side if its kernel is 4."""
    first = nn.Conv2d(inputs, outputs, kernel, 2 if kernel == 4 else 1, 1)
    second = nn.Conv2d(outputs, outputs, 3, padding=1)
    return nn.Sequential(first, nn.BatchNorm2d(outputs), nn.ReLU(), second, nn.BatchNorm2d(outputs), nn.ReLU())


METHOD = Riad

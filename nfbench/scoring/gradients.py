"""Anomaly maps by gradients: how strongly each pixel would change the likelihood (DifferNet, 3.4) or a loss (MKD)."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from nfbench.blocks.features import Features
from nfbench.blocks.maps import smooth
from nfbench.blocks.method import Method
from nfbench.core.errors import required
from nfbench.features.forward import Picture, load_extractor, normalize, read_images
from nfbench.features.recipe import Recipe
from nfbench.features.tiling import Tile

__all__ = ["GradientMaps"]


class GradientMaps:
    """Gradients of a method's ``localized`` value with respect to the image, over fixed rotations.

    For each of ``gradient_maps.views`` rotations, the gradient is rotated back by cubic splines and blurred; the map is
    the mean over rotations and colours of its absolute value. Rotation runs on the CPU, by SciPy, as in the repository.

    Args:
        method: method on ``device``, with ``gradient_maps``.
        pictures: images, or their tiles.
        recipe: how their features are made.
        device: where to compute.
        network: the recipe's on ``device``, if it is loaded.

    Raises:
        NfbenchError: the backbone's weights are not available, or are not those of the recipe.
    """

    def __init__(
        self,
        method: Method,
        pictures: Sequence[Picture | Tile],
        recipe: Recipe,
        device: torch.device,
        network: nn.Module | None = None,
    ) -> None:
        self.method = method
        self.pictures = pictures
        self.recipe = recipe
        self.device = device
        self.model = network or load_extractor(recipe).to(device)
        self.settings = required(method.gradient_maps, "'gradient_maps' of the method")
        self.angles = [360 * number / self.settings.views for number in range(self.settings.views)]

    def __call__(self, indices: Sequence[int]) -> Tensor:
        """Return the maps of some images, ``(B, H, W)``, at the size of the backbone's input."""
        return torch.stack([self._map(index) for index in indices])

    @torch.inference_mode(False)
    @torch.enable_grad()
    def _map(self, index: int) -> Tensor:
        from scipy import ndimage

        images = read_images([self.pictures[index]], self.recipe.backbone.input_size, [self.angles])[0]
        inputs = normalize(images, self.recipe, self.device).requires_grad_()
        features = Features(self.model(inputs), inputs if self.method.takes_image else None)
        (gradients,) = torch.autograd.grad(self.method.localized(features).sum(), inputs)
        back = [
            ndimage.rotate(gradient, -angle, axes=(2, 1), reshape=False)
            for gradient, angle in zip(gradients.cpu().numpy(), self.angles, strict=True)
        ]
        turned = torch.from_numpy(np.concatenate(back))
        turned = turned.abs() if self.settings.absolute else turned
        return smooth(turned, self.settings.sigma).abs().mean(0).to(self.device)

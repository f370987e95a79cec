"""MKD: a small student that learns a pretrained network's features (Salehi et al., CVPR 2021, arXiv 2011.11108).

Compared with the description of rohban-lab/Knowledge_Distillation_AD at 0c574ae.
Loss: over four layers, the cosine distance of the whole layer's features from the teacher's, plus ``mse_weight`` times
    their mean squared distance. Score: the same over the last three layers. Map: absolute gradient of the loss with
    respect to the image, blurred.

Deliberate deviations: maps use the plain gradient; the repository's default is guided back-propagation. Maps are not
    clipped and scaled image by image, because no threshold would then hold for all images, and have no morphological
    opening. The repository localizes only in anomalous images. It reports the best epoch on the test set, the selection
    'oracle' here.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from nfbench.blocks.features import Features
from nfbench.blocks.maps import GradientSettings
from nfbench.blocks.method import LevelShape, Method, Scores, Tiny
from nfbench.blocks.network import MaxPool
from nfbench.blocks.settings import TrainedSettings
from nfbench.config import Choices, Range
from nfbench.core.errors import NfbenchError

__all__ = ["METHOD", "Mkd", "MkdSettings", "Student"]

MEMORY = {"parameters": 0, "network": 4e5, "pixels": 1000}
"""See ``nfbench.plan.memory``."""


class MkdSettings(TrainedSettings):
    """The repository's settings for MVTec AD, on levels 1 to 4 of VGG-16 at 128 pixels."""

    epochs: int = Field(601, ge=0, description="passes over the training images")
    batch_size: int = Field(64, ge=1, description="images per step")
    lr: float = Field(1e-3, gt=0, description="learning rate of Adam")
    mse_weight: float = Field(0.5, ge=0, description="weight of the squared distance; the cosine distance has weight 1")
    hidden_channels: int | None = Field(
        16, ge=1, description="channels of the student between the compared layers; null for the teacher's"
    )
    localization_sigma: float = Field(
        4.0, ge=0, description="sigma of a Gaussian on the absolute gradient, in pixels of the image"
    )


class Student(nn.Module):
    """A VGG-16 from the image ``(B, 3, H, W)`` to the outputs of its pooling layers, except the first.

    The last convolution of a stage has no batch normalization.

    Args:
        channels: channels of the outputs.
        hidden: channels of the other convolutions; None for the output channels of their stage.
    """

    def __init__(self, channels: Sequence[int], hidden: int | None) -> None:
        super().__init__()
        outputs = (hidden or channels[0] // 2, *channels)
        self.stages = nn.ModuleList()
        for number, (inputs, width) in enumerate(pairwise((3, *outputs))):
            inner = [hidden or width] * (1 if number < 2 else 2)
            layers: list[nn.Module] = []
            for before, after in pairwise((inputs, *inner)):
                layers += [_convolution(before, after), nn.BatchNorm2d(after), nn.ReLU()]
            last = [_convolution(inner[-1], width), nn.ReLU(), MaxPool(nn.MaxPool2d(2))]
            self.stages.append(nn.Sequential(*layers, *last))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return one ``(B, C, H, W)`` for each entry of ``channels``."""
        found = []
        for stage in self.stages:
            x = stage(x)
            found.append(x)
        return found[1:]


class Mkd(Method):
    """A student network, and the distance of its layers from the teacher's."""

    title = "MKD"
    settings_type = MkdSettings
    settings: MkdSettings
    takes_image = True
    tiny = Tiny(shapes=(LevelShape(8, 16, 16), LevelShape(12, 8, 8), LevelShape(16, 4, 4)))
    search_space = {
        "lr": Range(low=1e-4, high=1e-2, log=True),
        "mse_weight": Range(low=0.01, high=1.0, log=True),
        "hidden_channels": Choices(choices=(16, 32, 64)),
    }

    def build(self, generator: torch.Generator) -> None:
        """Build the student."""
        sides = [tuple(size >> number for size in self.map_size) for number in range(1, len(self.shapes) + 1)]
        if len(self.shapes) < 2 or [shape[1:] for shape in self.shapes] != sides:
            raise NfbenchError(
                "method 'mkd' needs at least two consecutive levels at 1/2, 1/4, ... of the image's side; "
                "give it levels 1 to 4 of the backbone 'vgg16_unit'"
            )
        self.pool = MaxPool(nn.MaxPool2d(2))
        self.student = Student([shape.channels for shape in self.shapes], self.settings.hidden_channels)
        for module in self.student.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight, generator=generator)

    @property
    def gradient_maps(self) -> GradientSettings:
        """Return the settings of the gradient maps, with one view."""
        return GradientSettings(1, self.settings.localization_sigma, absolute=True)

    def loss(self, features: Features[Tensor]) -> Tensor:
        """Return the distances of all layers, averaged over the images."""
        return self._distances(features).sum(0).mean()

    def localized(self, features: Features[Tensor]) -> Tensor:
        """Return the loss of each image, whose gradient is its map."""
        return self._distances(features).sum(0)

    def score(self, features: Features[Tensor]) -> Scores:
        """Return the distances of all layers but the first. Maps are gradients and are computed elsewhere."""
        return Scores(None, self._distances(features)[1:].sum(0))

    def parameter_groups(self) -> dict[str, Sequence[nn.Parameter]]:
        """Return all parameters, under the student."""
        return {"student": list(self.student.parameters())}

    def _distances(self, features: Features[Tensor]) -> Tensor:
        """Return ``1 - cosine`` plus the weighted mean squared difference, by layer and image, ``(L, B)``."""
        found = []
        for level, learned in zip(features.levels, self.student(features.required_image), strict=True):
            teacher, student = self.pool(level).flatten(1), learned.flatten(1)
            squared = (teacher - student).square().mean(1)
            found.append(1 - functional.cosine_similarity(teacher, student) + self.settings.mse_weight * squared)
        return torch.stack(found)


def _convolution(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)


METHOD = Mkd

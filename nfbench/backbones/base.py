"""What a backbone is: a timm model with its weight tag, its levels, its input and where its weights come from."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from nfbench.errors import NfbenchError
from nfbench.registry import import_plugins, nearest

__all__ = ["IMAGENET_MEAN", "IMAGENET_STD", "Backbone", "Level", "WeightPackage", "backbone_names", "find_backbone"]

PACKAGE = "nfbench.backbones"
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Level(NamedTuple):
    """A tap of the backbone: output channels, and the input's size divided by the output's."""

    channels: int
    stride: int


@dataclass(frozen=True)
class WeightPackage:
    """Weights that an installed package ships.

    Attributes:
        distribution: name to install it by.
        file: path of the file inside the installed package, with the import name first.
        sha256: hash of the file.
    """

    distribution: str
    file: str
    sha256: str


@dataclass(frozen=True)
class Backbone:
    """A frozen backbone.

    Attributes:
        name: timm's name with its weight tag; what commands, paths and tables use.
        timm_name: name and tag that timm's hub knows.
        taps: all levels by their index in timm's ``features_only`` list.
        levels: indices of the levels that methods use by default, fine to coarse.
        input_size: default side of the square input, in pixels.
        mean, std: normalization of RGB values in [0, 1].
        package: the installed package that ships the weights; without one they come from timm's hub.
    """

    name: str
    timm_name: str
    taps: Mapping[int, Level]
    levels: tuple[int, ...] = (1, 2, 3)
    input_size: int = 256
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    package: WeightPackage | None = None

    def shapes(self, input_size: int, levels: tuple[int, ...] | None = None) -> list[tuple[int, int, int]]:
        """``(C, H, W)`` of each level at an input of ``input_size`` pixels, fine to coarse.

        Raises:
            NfbenchError: a level that the backbone does not have.
        """
        unknown = [level for level in levels or () if level not in self.taps]
        if unknown:
            raise NfbenchError(f"backbone '{self.name}' has levels {sorted(self.taps)}, not {unknown}")
        taps = (self.taps[level] for level in levels or self.levels)
        return [(tap.channels, -(-input_size // tap.stride), -(-input_size // tap.stride)) for tap in taps]


def _all_backbones() -> dict[str, Backbone]:
    found: dict[str, Backbone] = {}
    for module in import_plugins(PACKAGE):
        for backbone in module.BACKBONES:
            if backbone.name in found:
                raise ValueError(f"backbone '{backbone.name}' is described twice, again in {module.__name__}")
            found[backbone.name] = backbone
    return found


def backbone_names() -> list[str]:
    """Names of all backbones."""
    return sorted(_all_backbones())


def find_backbone(name: str) -> Backbone:
    """The backbone of this name.

    Raises:
        NfbenchError: no such backbone; the message names the nearest one.
    """
    backbones = _all_backbones()
    if name not in backbones:
        raise NfbenchError(f"unknown backbone '{name}'{nearest(name, backbones)}")
    return backbones[name]

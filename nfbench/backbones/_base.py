"""Description of a backbone: a timm model with its weight tag, levels and input, and the source of its weights."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from nfbench.core.errors import NfbenchError
from nfbench.core.input_size import InputSize, Sides
from nfbench.core.registry import exported, nearest, plugin_names

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "INTERPOLATIONS",
    "Backbone",
    "Level",
    "WeightPackage",
    "backbone_names",
    "family_of",
    "find_backbone",
    "halving_levels",
    "side_by_side",
]

PACKAGE = "nfbench.backbones"
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
INTERPOLATIONS = ("nearest", "bilinear", "bilinear_aligned", "bicubic_aligned")
"""How the normalized image is scaled; ``aligned`` is torch's ``align_corners=True``."""


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


def halving_levels(channels: tuple[int, ...], stride: int = 2) -> dict[int, Level]:
    """Return levels 0, 1, ..; the first has this ``stride``, and each next one doubles it."""
    return {index: Level(width, stride * 2**index) for index, width in enumerate(channels)}


def side_by_side(name: str, *parts: "Backbone") -> "Backbone":
    """Combine backbones with one input size and the first one's normalization; concatenate their default levels."""
    first = parts[0]
    taps = dict(enumerate(part.taps[level] for part in parts for level in part.levels))
    names = " and ".join(part.timm_name for part in parts)
    return Backbone(name, names, taps, tuple(taps), first.input_size, first.mean, first.std, parts=parts)


def _ceil_division(side: int, stride: int) -> int:
    return -(-side // stride)


def _axes(size: InputSize) -> Iterator[tuple[str, int]]:
    """Yield the name and length of each side; a square has one side without a name."""
    yield from [("", size.height)] if size.is_square else zip(size._fields, size, strict=True)


def _key(axis: str) -> str:
    return f"the {axis} in 'input_size'" if axis else "'input_size'"


def _nearest_multiples(size: int, of: int) -> str:
    """Return the multiples below and above ``size`` as text."""
    below = size // of * of
    return f"{below} or {below + of}" if below else f"{of}"


@dataclass(frozen=True)
class Backbone:
    """A frozen backbone.

    Attributes:
        name: timm's name with its weight tag, or the name that papers use; what commands, paths and tables use.
        timm_name: name and tag that timm's hub knows.
        taps: all levels by index; the extractor defines what they are. Without any, features are only the image.
        levels: indices of the levels that methods use by default, fine to coarse.
        input_size: default side of the input, a square, in pixels.
        mean, std: normalization of RGB values in [0, 1].
        package: the installed package that ships the weights; without one they come from a hub.
        scales: divisors of the input's side; the levels are taken of the image at each of these sizes.
        interpolation: how the normalized image is scaled, one of ``INTERPOLATIONS``.
        fixed_size: position embeddings allow no side but ``input_size``.
        patch: side of a patch in pixels, both sides of the image are multiples of it; 1 where any side will do.
        extractor: how levels are taken, a name in ``extractors.EXTRACTORS``; by default timm's ``features_only``.
        output_side: a level's side by the input's side and the level's stride.
        parts: combined backbones; their default levels in this order are the levels 0, 1, .. of the whole. Where
            their input sizes differ from its own, they see the image scaled to their size.
        url: where the weights are if not in timm's hub; the file's name ends in the first digits of its SHA-256.
    """

    name: str
    timm_name: str
    taps: Mapping[int, Level]
    levels: tuple[int, ...] = (1, 2, 3)
    input_size: int = 256
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    package: WeightPackage | None = None
    scales: tuple[int, ...] = (1,)
    interpolation: str = "nearest"
    fixed_size: bool = False
    patch: int = 1
    extractor: str = "features_only"
    output_side: Callable[[int, int], int] = _ceil_division
    parts: tuple["Backbone", ...] = ()
    url: str | None = None

    @property
    def weights(self) -> str:
        """Return the default source of weights: ``package``, ``hub``, or ``none`` for a backbone without levels."""
        if not self.taps:
            return "none"
        return "package" if all(part.package for part in self.parts or (self,)) else "hub"

    def levels_of_parts(self, levels: tuple[int, ...]) -> list[tuple["Backbone", tuple[int, ...]]]:
        """Return the parts that have some of these ``levels``, each with its own indices."""
        owners = [(part, level) for part in self.parts for level in part.levels]
        wanted = [owners[level] for level in levels]
        found = [(part, tuple(level for owner, level in wanted if owner is part)) for part in self.parts]
        return [(part, own) for part, own in found if own]

    def shapes(
        self,
        input_size: Sides,
        levels: tuple[int, ...] | None = None,
        scales: tuple[int, ...] | None = None,
        *,
        pyramid: bool = False,
    ) -> list[tuple[int, int, int]]:
        """Return ``(C, H, W)`` of each level at ``input_size`` pixels: for each scale, the levels fine to coarse.

        ``input_size`` is the side of a square, or height and width.
        With ``pyramid``, level k of one scale is pooled to ``1 / 2^k`` of its size.

        Raises:
            NfbenchError: a level that the backbone does not have, an input that it cannot take, or levels that cannot
                be pooled to a pyramid.
        """
        self.check_levels(levels or ())
        sizes = [self._scaled(InputSize.of(input_size), scale) for scale in scales or self.scales]
        taps = [self.taps[level] for level in levels or self.levels]
        shapes = [self._shape(tap, size) for size in sizes for tap in taps]
        return self._halved(shapes, taps[0].stride, len(sizes)) if pyramid else shapes

    def _halved(self, shapes: list[tuple[int, int, int]], stride: int, scales: int) -> list[tuple[int, int, int]]:
        """Pool level k to ``1 / 2^k`` of its size."""
        found, divisor = [InputSize(*sides) for _, *sides in shapes], 2 ** (len(shapes) - 1)
        if scales > 1 or len(set(found)) > 1:
            raise NfbenchError(
                f"backbone '{self.name}': 'pyramid' takes levels of one size at one scale, not of sizes "
                f"[{', '.join(map(str, found))}]; remove it"
            )
        for axis, side in _axes(found[0]):
            if side % divisor:
                sizes = _nearest_multiples(side * stride, divisor * stride)
                raise NfbenchError(
                    f"backbone '{self.name}': 'pyramid' cannot halve levels of {found[0].height} x {found[0].width} "
                    f"{len(shapes) - 1} times; set {_key(axis)} to {sizes}"
                )
        return [(channels, *found[0].divided(2**k)) for k, (channels, *_) in enumerate(shapes)]

    def check_levels(self, levels: tuple[int, ...]) -> None:
        """Check that the backbone has all these levels.

        Raises:
            NfbenchError: a level is missing.
        """
        unknown = [level for level in levels if level not in self.taps]
        if unknown:
            raise NfbenchError(f"backbone '{self.name}' has levels {sorted(self.taps)}, not {unknown}")

    def _scaled(self, size: InputSize, scale: int) -> InputSize:
        for axis, side in _axes(size):
            if scale < 1 or side % scale:
                where = f": its {axis} is {side}" if axis else ""
                raise NfbenchError(
                    f"backbone '{self.name}': an input of {size} pixels cannot be divided by {scale}{where}"
                )
        scaled = size.divided(scale)
        if self.fixed_size and scaled != InputSize.of(self.input_size):
            raise NfbenchError(
                f"backbone '{self.name}' takes images of {self.input_size} pixels alone, for its position embeddings, "
                f"not of {scaled}; set 'input_size: {self.input_size}'"
            )
        for axis, side in _axes(size):
            if side // scale % self.patch:
                raise NfbenchError(
                    f"backbone '{self.name}' takes images whose side is a multiple of {self.patch} pixels, the side of "
                    f"its patches, not of {scaled}; set {_key(axis)} to "
                    f"{_nearest_multiples(side, self.patch * scale)}"
                )
        return scaled

    def _shape(self, tap: Level, size: InputSize) -> tuple[int, int, int]:
        height, width = (self.output_side(side, tap.stride) for side in size)
        if min(height, width) < 1:
            raise NfbenchError(f"backbone '{self.name}': an image of {size} pixels is too small")
        return tap.channels, height, width


@cache
def _all_backbones() -> dict[str, tuple[Backbone, str]]:
    """Return all backbones by name, each with the module that describes it."""
    found: dict[str, tuple[Backbone, str]] = {}
    for family in plugin_names(PACKAGE):
        for backbone in exported(PACKAGE, family, "BACKBONES", instance_of=Sequence):
            if backbone.name in found:
                raise NfbenchError(
                    f"backbone '{backbone.name}' is described twice, again in nfbench/backbones/{family}.py"
                )
            found[backbone.name] = backbone, f"{PACKAGE}.{family}"
    return found


def backbone_names() -> list[str]:
    """Names of all backbones."""
    return sorted(_all_backbones())


def find_backbone(name: str) -> Backbone:
    """Return the backbone with this name.

    Raises:
        NfbenchError: no such backbone; the message names the nearest one.
    """
    return _find(name)[0]


def family_of(name: str) -> str:
    """Return the module that describes a backbone, such as ``nfbench.backbones.resnet``.

    Raises:
        NfbenchError: no such backbone; the message names the nearest one.
    """
    return _find(name)[1]


def _find(name: str) -> tuple[Backbone, str]:
    backbones = _all_backbones()
    if name not in backbones:
        raise NfbenchError(f"unknown backbone '{name}'{nearest(name, backbones)}")
    return backbones[name]

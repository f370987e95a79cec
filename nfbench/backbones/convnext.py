"""ConvNeXt (arXiv 2201.03545) with ImageNet-22k weights, and ConvNeXtV2 (arXiv 2301.00808).

Levels as in timm's ``features_only``: 0 to 3 are the outputs of the four stages, without normalization, at strides 4 to
32. Their scales differ by level, so flows need a normalization of the features. Convolutions that lower the resolution
do not pad: what is left of a side that they do not divide is cut off.

The weights of ConvNeXtV2 exclude commercial use, those of ConvNeXt do not; the shapes are the same by size.
"""

from nfbench.backbones._base import Backbone, halving_levels

__all__ = ["BACKBONES", "BASE", "LARGE", "TINY", "described"]

TINY = (96, 192, 384, 768)
"""Channels of the stages; the small network has those of the tiny one."""
BASE = (128, 256, 512, 1024)
LARGE = (192, 384, 768, 1536)


def described(name: str, channels: tuple[int, ...]) -> Backbone:
    """Return a ConvNeXt by timm's name and tag, and the channels of its stages."""
    return Backbone(name, name, halving_levels(channels, stride=4), levels=(0, 1, 2), output_side=_floor_division)


def _floor_division(side: int, stride: int) -> int:
    return side // stride


BACKBONES = [
    described("convnext_tiny.fb_in22k_ft_in1k", TINY),
    described("convnext_small.fb_in22k_ft_in1k", TINY),
    described("convnext_base.fb_in22k_ft_in1k", BASE),
    described("convnext_large.fb_in22k_ft_in1k", LARGE),
    described("convnextv2_atto.fcmae_ft_in1k", (40, 80, 160, 320)),
    described("convnextv2_nano.fcmae_ft_in22k_in1k", (80, 160, 320, 640)),
    described("convnextv2_tiny.fcmae_ft_in22k_in1k", TINY),
    described("convnextv2_base.fcmae_ft_in22k_in1k", BASE),
    described("convnextv2_large.fcmae_ft_in22k_in1k", LARGE),
]

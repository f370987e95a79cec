"""ResNets by their weight tag: torchvision's V1 weights (``tv``) and timm's own (``a1``, ``racm``).

timm's bare names changed their weights between versions, so the tag is part of the name. Levels as in timm's
``features_only``: 0 is the stem, 1 to 4 are layer1 to layer4.
"""

from nfbench.backbones.base import Backbone, Level

__all__ = ["BACKBONES"]


def _taps(channels: tuple[int, ...]) -> dict[int, Level]:
    return {index: Level(width, 2 ** (index + 1)) for index, width in enumerate(channels)}


_RESNET18 = _taps((64, 64, 128, 256, 512))
_WIDE_RESNET50_2 = _taps((64, 256, 512, 1024, 2048))

BACKBONES = [
    Backbone("resnet18.tv_in1k", "resnet18.tv_in1k", _RESNET18),
    Backbone("resnet18.a1_in1k", "resnet18.a1_in1k", _RESNET18),
    Backbone("wide_resnet50_2.tv_in1k", "wide_resnet50_2.tv_in1k", _WIDE_RESNET50_2),
    Backbone("wide_resnet50_2.racm_in1k", "wide_resnet50_2.racm_in1k", _WIDE_RESNET50_2),
]

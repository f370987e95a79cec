"""ResNets by their weight tag: torchvision's V1 weights (``tv``) and timm's own (``a1``, ``racm``).

timm's bare names changed their weights between versions, so the tag is part of the name. Levels as in timm's
``features_only``: 0 is the stem, 1 to 4 are layer1 to layer4.

``resnet34_50`` is PEFM's pair (smiler96/PFM-and-PEFM): levels 0 to 2 are layer1 to layer3 of ResNet-34, 3 to 5 those of
ResNet-50, which have the same sizes. Each network is run once.
"""

from nfbench.backbones._base import Backbone, halving_levels, side_by_side

__all__ = ["BACKBONES"]

_BASIC = (64, 64, 128, 256, 512)
_BOTTLENECK = (64, 256, 512, 1024, 2048)


def _resnet(name: str, channels: tuple[int, ...]) -> Backbone:
    return Backbone(name, name, halving_levels(channels))


_R34 = _resnet("resnet34.tv_in1k", _BASIC)
_R50 = _resnet("resnet50.tv_in1k", _BOTTLENECK)

BACKBONES = [
    _resnet("resnet18.tv_in1k", _BASIC),
    _resnet("resnet18.a1_in1k", _BASIC),
    _R34,
    _R50,
    _resnet("resnet50.a1_in1k", _BOTTLENECK),
    _resnet("resnet101.tv_in1k", _BOTTLENECK),
    _resnet("resnet101.a1_in1k", _BOTTLENECK),
    _resnet("wide_resnet50_2.tv_in1k", _BOTTLENECK),
    _resnet("wide_resnet50_2.racm_in1k", _BOTTLENECK),
    _resnet("wide_resnet101_2.tv_in1k", _BOTTLENECK),
    side_by_side("resnet34_50", _R34, _R50),
]

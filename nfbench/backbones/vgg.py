"""VGG (arXiv 1409.1556) with torchvision's weights: VGG-16 as MKD (arXiv 2011.11108) has it, VGG-11 with batch norm.

Levels as in timm's ``features_only``: 0 to 4 are the last ReLUs before the five poolings, 5 is the last pooling.

``vgg16_unit`` is the same network as ``vgg16.tv_in1k`` on images in [0, 1], as in MKD, although it was trained on
normalized ones.
"""

from dataclasses import replace

from nfbench.backbones._base import Backbone, halving_levels

__all__ = ["BACKBONES"]


def _output_side(side: int, stride: int) -> int:
    return side // stride  # poolings drop the remainder


def _vgg(name: str) -> Backbone:
    levels = halving_levels((64, 128, 256, 512, 512, 512), stride=1)
    return Backbone(name, name, levels, levels=(1, 2, 3, 4), output_side=_output_side)


_VGG16 = _vgg("vgg16.tv_in1k")

BACKBONES = [
    _vgg("vgg11_bn.tv_in1k"),
    _VGG16,
    replace(_VGG16, name="vgg16_unit", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)),
]

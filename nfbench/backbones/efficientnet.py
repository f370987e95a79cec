"""EfficientNet-B4 to B6 (arXiv 1905.11946) with the AutoAugment weights that TensorFlow's authors trained.

Levels as in timm's ``features_only``: the outputs of the stages ``blocks`` 0, 1, 2, 4 and 6; stages after the last
level are neither kept nor run. B6 has HGAD's input by default (arXiv 2403.13349): level 3 of 1024, 512 and 256 pixels.

``efficientnet_b5`` is CS-Flow's (arXiv 2110.02855): the output of stage ``blocks`` 5 alone, which ``features_only``
skips, at 768, 384 and 192 pixels; PatchFlow (arXiv 2602.05238) takes stages 2 and 3 too. Both took the same weights
from another port, which pads for 456 pixels at any input; here padding follows the input, as in TensorFlow.
"""

from nfbench.backbones._base import Backbone, Level, halving_levels

__all__ = ["BACKBONES"]

_B4, _B5, _B6 = (f"tf_efficientnet_b{size}.aa_in1k" for size in (4, 5, 6))
_PYRAMID = (1, 2, 4)

BACKBONES = [
    Backbone(_B4, _B4, halving_levels((24, 32, 56, 160, 448)), extractor="truncated_features"),
    Backbone(_B5, _B5, halving_levels((24, 40, 64, 176, 512)), extractor="truncated_features"),
    Backbone(
        _B6,
        _B6,
        halving_levels((32, 40, 72, 200, 576)),
        levels=(3,),
        input_size=1024,
        scales=_PYRAMID,
        interpolation="bilinear_aligned",
        extractor="truncated_features",
    ),
    Backbone(
        "efficientnet_b5",
        _B5,
        {2: Level(64, 8), 3: Level(128, 16), 5: Level(304, 32)},
        levels=(5,),
        input_size=768,
        scales=_PYRAMID,
        extractor="stages",
    ),
]

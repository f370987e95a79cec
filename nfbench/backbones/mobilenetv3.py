"""MobileNetV3-Large (arXiv 1905.02244) as CFLOW-AD (arXiv 2107.12571) taps it, with timm's weights.

CFLOW-AD counts its taps from the end of the 17 modules that torchvision calls ``features``: -11, -5 and -2 are the last
blocks of the stages of 40 channels at stride 8, 112 at 16 and 160 at 32. Of each block it takes the output of the
projecting convolution, before its batch normalization and before the residual is added. In timm these are the
``conv_pwl`` of the last blocks of stages 2, 4 and 5, and the level is the stage's index. timm's ``features_only`` gives
the blocks' outputs, residuals included, and instead of the last one the 960 channels after it.

CFLOW-AD's own weights are in no hub that timm knows.
"""

from nfbench.backbones._base import Backbone, Level

__all__ = ["BACKBONES"]

BACKBONES = [
    Backbone(
        "mobilenetv3_large",
        "mobilenetv3_large_100.ra_in1k",
        {2: Level(40, 8), 4: Level(112, 16), 5: Level(160, 32)},
        levels=(2, 4, 5),
        extractor="projections",
    )
]

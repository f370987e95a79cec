"""torchvision's AlexNet as DifferNet (arXiv 2008.12577) uses it: all of ``features``, the last pooling included.

Nothing pads to whole strides, so that 448, 224 and 112 pixels become 13, 6 and 2. The level is the index of the pooling
layer in ``features``.
"""

from nfbench.backbones._base import Backbone, Level

__all__ = ["BACKBONES"]


def _output_side(side: int, _stride: int) -> int:
    side = (side + 2 * 2 - 11) // 4 + 1
    for _ in range(3):
        side = (side - 3) // 2 + 1
    return side


BACKBONES = [
    Backbone(
        "alexnet",
        "alexnet.tv_in1k",
        {12: Level(256, 32)},
        levels=(12,),
        input_size=448,
        scales=(1, 2, 4),
        extractor="alexnet",
        output_side=_output_side,
        url="https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
    )
]

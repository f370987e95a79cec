"""DINOv2's vision transformers (arXiv 2304.07193), with and without registers (arXiv 2309.16588), at any size.

The level is the index of its last block: the patch tokens after it, through the network's own final normalization;
class token and registers are dropped. Position codes, which are of 518 pixels, are resampled to the input's size, and
inputs are padded with zeros to multiples of 14 pixels. The default size is AnomalyDINO's.
"""

from nfbench.backbones._base import Backbone, Level

__all__ = ["BACKBONES"]


def _vit(name: str, channels: int) -> Backbone:
    taps = {block: Level(channels, 14) for block in range(12)}
    return Backbone(name, name, taps, levels=(11,), input_size=448, extractor="resized_tokens")


BACKBONES = [
    _vit("vit_small_patch14_dinov2.lvd142m", 384),
    _vit("vit_base_patch14_reg4_dinov2.lvd142m", 768),
]

"""DINOv2's vision transformers (arXiv 2304.07193), with and without registers (arXiv 2309.16588).

The level is the index of its last block: the patch tokens after it, through the network's own final normalization;
class token and registers are dropped. Several blocks are levels of one size, which ``pyramid`` pools to halving sizes.
Position codes, which are of 518 pixels, are resampled to the input's size, any multiple of 14 pixels. The default size
is AnomalyDINO's.
"""

from nfbench.backbones._base import Backbone, Level

__all__ = ["BACKBONES"]


def _vit(name: str, channels: int, blocks: int) -> Backbone:
    name = f"vit_{name}_dinov2.lvd142m"
    taps = {block: Level(channels, 14) for block in range(blocks)}
    last = (blocks - 1,)
    return Backbone(name, name, taps, levels=last, input_size=448, patch=14, extractor="resized_tokens")


BACKBONES = [
    _vit("small_patch14", 384, 12),
    _vit("small_patch14_reg4", 384, 12),
    _vit("base_patch14", 768, 12),
    _vit("base_patch14_reg4", 768, 12),
    _vit("large_patch14_reg4", 1024, 24),
    _vit("giant_patch14_reg4", 1536, 40),
]

"""DINOv3 (arXiv 2508.10104): vision transformers, and the ConvNeXts that were distilled from the largest one.

Of the transformers, the level is the index of its last block: the patch tokens after it, through the network's own
final normalization; class token and registers are dropped. Several blocks are levels of one size, which ``pyramid``
pools to halving sizes. Positions are rotary codes, so that any multiple of 16 pixels is an input; the default has the
32 x 32 positions of DINOv2's. Levels of the ConvNeXts are those of ``nfbench.backbones.convnext``.

The weights have a licence of their own, see ``docs/licences.md``.
"""

from nfbench.backbones._base import Backbone, Level
from nfbench.backbones.convnext import BASE, LARGE, TINY, described

__all__ = ["BACKBONES"]


def _vit(size: str, channels: int, blocks: int) -> Backbone:
    name = f"vit_{size}_patch16_dinov3.lvd1689m"
    taps = {block: Level(channels, 16) for block in range(blocks)}
    return Backbone(name, name, taps, levels=(blocks - 1,), input_size=512, patch=16, extractor="tokens")


BACKBONES = [
    _vit("small", 384, 12),
    _vit("small_plus", 384, 12),
    _vit("base", 768, 12),
    _vit("large", 1024, 24),
    _vit("huge_plus", 1280, 32),
    described("convnext_tiny.dinov3_lvd1689m", TINY),
    described("convnext_small.dinov3_lvd1689m", TINY),
    described("convnext_base.dinov3_lvd1689m", BASE),
    described("convnext_large.dinov3_lvd1689m", LARGE),
]

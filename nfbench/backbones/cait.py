"""CaiT (arXiv 2103.17239), as FastFlow (arXiv 2111.07677) and U-Flow (arXiv 2211.12353) use it.

The level is the index of its last block: the trunk up to block 40 of 48 (M48) or 20 of 24 (S24), then the network's own
final normalization, pretrained and frozen. Class attention is not used.

``ms_cait`` is U-Flow's pair: level 0 is M48 at 448 pixels, level 1 is S24 on the same normalized image at 224.
"""

from nfbench.backbones._base import Backbone, Level

__all__ = ["BACKBONES"]

_M48 = Backbone(
    "cait_m48_448",
    "cait_m48_448.fb_dist_in1k",
    {40: Level(768, 16)},
    levels=(40,),
    input_size=448,
    fixed_size=True,
    extractor="tokens",
)
_S24 = Backbone(
    "cait_s24_224",
    "cait_s24_224.fb_dist_in1k",
    {20: Level(384, 16)},
    levels=(20,),
    input_size=224,
    fixed_size=True,
    extractor="tokens",
)
_PAIR = Backbone(
    "ms_cait",
    f"{_M48.timm_name} and {_S24.timm_name}",
    {0: Level(768, 16), 1: Level(384, 32)},
    levels=(0, 1),
    input_size=448,
    interpolation="bicubic_aligned",
    fixed_size=True,
    parts=(_M48, _S24),
)

BACKBONES = [_M48, _S24, _PAIR]

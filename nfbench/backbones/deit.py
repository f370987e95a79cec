"""Distilled DeiT-B (arXiv 2012.12877) at 384 pixels, as FastFlow (arXiv 2111.07677) uses it.

The level is the index of its last block: blocks 0 to 7 of 12, then the network's own final normalization, pretrained
and frozen; the class and the distillation token are dropped. Position codes are resampled to inputs of other sizes, any
multiples of 16 pixels.
"""

from nfbench.backbones._base import Backbone, Level

__all__ = ["BACKBONES"]

_NAME = "deit_base_distilled_patch16_384.fb_in1k"

BACKBONES = [
    Backbone(_NAME, _NAME, {7: Level(768, 16)}, levels=(7,), input_size=384, patch=16, extractor="resized_tokens")
]

"""MViTv2 (arXiv 2112.01526): multiscale vision transformers, of which U-Flow tried one.

Levels as in timm's ``features_only``: the outputs of the four stages, without the final normalization. Their relative
position embeddings are made for 224 pixels: timm fails on larger images, and takes wrong embeddings for smaller ones.
In the large network a stage widens at its end, so that its first level has 288 channels, not 144.
"""

from nfbench.backbones._base import Backbone, halving_levels

__all__ = ["BACKBONES"]


def _mvitv2(size: str, channels: tuple[int, ...]) -> Backbone:
    name = f"mvitv2_{size}.fb_in1k"
    levels = halving_levels(channels, stride=4)
    return Backbone(name, name, levels, levels=(0, 1, 2, 3), input_size=224, fixed_size=True)


BACKBONES = [
    _mvitv2("tiny", (96, 192, 384, 768)),
    _mvitv2("small", (96, 192, 384, 768)),
    _mvitv2("base", (96, 192, 384, 768)),
    _mvitv2("large", (288, 576, 1152, 1152)),
]

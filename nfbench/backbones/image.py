"""The normalized image itself, without features and weights, for methods that bring a network of their own."""

from nfbench.backbones._base import Backbone

__all__ = ["BACKBONES"]

BACKBONES = [Backbone("image", timm_name="", taps={}, levels=(), extractor="nothing")]

"""Pixels equal those of the image for the normalization of every network."""

import pytest
import torch

from nfbench.blocks.method import resolve_settings
from nfbench.blocks.pixels import Pixels
from nfbench.config import BackboneConfig
from nfbench.features.building import build_on
from nfbench.features.forward import load_recipe, normalize


@pytest.mark.parametrize("name", ["image", "resnet18.tv_in1k", "tf_efficientnet_lite0", "vgg16_unit"])
def test_pixels_are_those_that_were_normalized(name):
    images = torch.arange(192, dtype=torch.uint8).view(1, 3, 8, 8)
    recipe, _ = load_recipe(BackboneConfig(name=name, input_size=32, weights="random"))
    pixels = Pixels(name)
    normalized = normalize(images, recipe, torch.device("cpu"))
    torch.testing.assert_close(pixels.of(normalized), images / 255)
    torch.testing.assert_close(pixels.normalized(images / 255), normalized)


@pytest.mark.parametrize("method", ["cutpaste", "devnet", "dra", "fcdd"])
def test_methods_that_change_pixels_take_those_of_their_network(method):
    keys = {"name": "tf_efficientnet_lite0", "input_size": 32, "levels": (1,), "weights": "random"}
    model = build_on(BackboneConfig(**keys, frozen=False), method, resolve_settings(method), 0)
    white = torch.ones(1, 3, 32, 32)  # (1 - 0.5) / 0.5
    torch.testing.assert_close(model.pixels.of(white), torch.ones(1, 3, 32, 32))

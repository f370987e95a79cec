"""Every backbone keeps its contract: levels, channels and strides are those of the built model."""

import pytest
import torch

from nfbench.backbones.base import backbone_names, find_backbone
from nfbench.backbones.weights import load_backbone
from nfbench.errors import NfbenchError


@pytest.mark.parametrize("name", backbone_names())
@pytest.mark.parametrize("size", [64, 72])
def test_shapes_are_those_of_the_model(name, size):
    backbone = find_backbone(name)
    levels = tuple(sorted(backbone.taps))
    model = load_backbone(backbone, levels, "random")
    with torch.inference_mode():
        found = [tuple(x.shape[1:]) for x in model(torch.zeros(1, 3, size, size))]
    assert found == backbone.shapes(size, levels)
    assert backbone.timm_name.count(".") == 1, "the weight tag is pinned"
    assert set(backbone.levels) <= set(backbone.taps)


def test_unknown_names_and_levels_are_named():
    with pytest.raises(NfbenchError, match=r"unknown backbone 'resnet18'; did you mean 'resnet18.\w+'\?"):
        find_backbone("resnet18")
    with pytest.raises(NfbenchError, match=r"has levels \[0, 1, 2, 3, 4\], not \[7\]"):
        find_backbone("resnet18.tv_in1k").shapes(64, (1, 7))

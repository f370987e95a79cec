"""Every method can be described on every backbone that it can take, without data, weights or memory for parameters."""

from contextlib import suppress

import pytest
import torch

from nfbench.backbones._base import backbone_names, find_backbone
from nfbench.blocks.method import (
    PACKAGE,
    LevelShape,
    build_to_count,
    count_parameters,
    resolve_settings,
)  # fmt: skip
from nfbench.config import BackboneConfig
from nfbench.core.errors import NfbenchError
from nfbench.core.registry import plugin, plugin_names
from nfbench.features.building import count_on
from tests.tiny_models import build_tiny

pytestmark = pytest.mark.slow

SCALES = (1, 2, 4)
FOR_FEW = {"anomalib": 9, "mkd": 3, "pefm": 1, "vqflow": 7}
"""How many backbones there are for methods made for one kind."""


def find(method):
    return plugin(PACKAGE, method).METHOD


def shapes_for(method, name):
    """Shapes that a backbone can give a method: its levels, or its coarsest level at several scales."""
    backbone = find_backbone(name)
    if not find(method).takes_levels:
        return [[]]
    scaled = () if backbone.fixed_size else ((backbone.levels[-1:], SCALES),)
    return [
        [LevelShape(*shape) for shape in backbone.shapes(backbone.input_size, levels, scales)]
        for levels, scales in ((backbone.levels, backbone.scales), *scaled)
    ]


def describe(method, name):
    """The method on the first shapes that it supports, or None; its error messages are tested with it."""
    side, settings = find_backbone(name).input_size, resolve_settings(method, backbone=name)
    if find(method).takes_network == "yes" or find(method).tiny.network:
        with suppress(NfbenchError):
            return count_on(BackboneConfig(name=name, frozen=False), method, settings)
        return None
    for shapes in shapes_for(method, name):
        with suppress(NfbenchError):
            return build_to_count(method, shapes, settings, (side, side))
    return None


@pytest.mark.parametrize("method", plugin_names(PACKAGE))
def test_every_backbone_gives_counts_and_latents(method):
    described = 0
    for name in backbone_names():
        model = describe(method, name)
        if model is None:
            continue
        described += 1
        assert all(value.is_meta for value in model.parameters())
        counts = count_parameters(model)
        assert counts["total"] == sum(p.numel() for p in model.parameters() if p.requires_grad)
        assert counts["total"] == sum(count for part, count in counts.items() if part != "total")
        latents = model.latent_shapes()
        assert all(len(shape) in (1, 3) for shape in latents)
    assert described >= FOR_FEW.get(method, 18)


@pytest.mark.parametrize("method", plugin_names(PACKAGE))
def test_what_is_counted_is_what_is_built(method):
    settings = resolve_settings(method, overrides=find(method).tiny.settings)
    built = build_tiny(method, settings)
    with torch.device("meta"):
        counted = build_tiny(method, settings)
    assert count_parameters(counted) == count_parameters(built)
    assert counted.latent_shapes() == built.latent_shapes()
    names = {name: value.shape for name, value in counted.state_dict().items()}
    assert names == {name: value.shape for name, value in built.state_dict().items()}
    assert not any(isinstance(value, torch.Tensor) and value.is_meta for value in built.state_dict().values())

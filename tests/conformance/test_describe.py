"""Every method can be described on every backbone that it can take, without data, weights or memory for parameters."""

import pytest
import torch

from nfbench.backbones.base import backbone_names, find_backbone
from nfbench.blocks.method import (
    PACKAGE,
    LevelShape,
    build_method,
    build_to_count,
    count_parameters,
    resolve_settings,
)  # fmt: skip
from nfbench.core.errors import NfbenchError
from nfbench.core.registry import plugin, plugin_names

pytestmark = pytest.mark.slow

SCALES = (1, 2, 4)


def shapes_for(method, name):
    """The backbone's own levels; for methods that take one level at several scales, its coarsest one."""
    backbone = find_backbone(name)
    if method in ("csflow", "differnet") and not backbone.fixed_size:
        levels, scales = backbone.levels[-1:], SCALES
    else:
        levels, scales = backbone.levels, backbone.scales
    size = backbone.input_size
    return [LevelShape(*shape) for shape in backbone.shapes(size, levels, scales)], (size, size)


@pytest.mark.parametrize("method", plugin_names(PACKAGE))
def test_every_backbone_gives_counts_and_latents(method):
    described = 0
    for name in backbone_names():
        shapes, size = shapes_for(method, name)
        settings = resolve_settings(method, backbone=name)
        try:
            model = build_to_count(method, shapes, settings, size)
        except NfbenchError:  # levels that do not go together; the message is tested with the method
            continue
        described += 1
        assert all(value.is_meta for value in model.parameters())
        counts = count_parameters(model)
        assert counts["total"] == sum(p.numel() for p in model.parameters() if p.requires_grad)
        assert counts["total"] == sum(count for part, count in counts.items() if part != "total")
        latents = model.latent_shapes()
        assert all(len(shape) in (1, 3) for shape in latents)
    assert described >= 18


@pytest.mark.parametrize("method", plugin_names(PACKAGE))
def test_what_is_counted_is_what_is_built(method):
    shapes, size = [LevelShape(24, 8, 8), LevelShape(24, 4, 4), LevelShape(24, 2, 2)], (64, 64)
    overrides = {"hidden_channels": 8} if method in ("csflow", "differnet") else {}
    settings = resolve_settings(method, overrides=overrides)
    image = [LevelShape(3, *size)] if plugin(PACKAGE, method).METHOD.takes_image else []
    counted = build_to_count(method, shapes, settings, size)
    built = build_method(method, image + shapes, settings, size, 0)
    assert count_parameters(counted) == count_parameters(built)
    assert counted.latent_shapes() == built.latent_shapes()
    names = {name: value.shape for name, value in counted.state_dict().items()}
    assert names == {name: value.shape for name, value in built.state_dict().items()}
    assert not any(isinstance(value, torch.Tensor) and value.is_meta for value in built.state_dict().values())

"""Every backbone meets its contract: levels, channels and strides match the built model."""

from collections.abc import Iterator
from functools import cache

import pytest
import torch
from torch import nn

from nfbench.backbones._base import INTERPOLATIONS, Backbone, backbone_names, family_of, find_backbone
from nfbench.backbones._extractors import EXTRACTORS, import_timm
from nfbench.backbones._weights import load_backbone
from nfbench.core.errors import NfbenchError
from nfbench.core.input_size import InputSize, Sides

pytestmark = pytest.mark.slow

timm = import_timm()

OTHER_INPUT = {"vgg16_unit": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))}
"""Mean and standard deviation of backbones whose papers give them other images than they were trained on."""


def networks(backbone: Backbone) -> tuple[Backbone, ...]:
    """The networks of a backbone; none without levels."""
    return backbone.parts or ((backbone,) if backbone.taps else ())


def some_sizes(backbone: Backbone) -> list[Sides]:
    """The smallest comes first, the default last; between them, sizes that are not square, odd ones too."""
    if backbone.fixed_size:
        return [backbone.input_size]
    unit, scale = backbone.patch, max(backbone.scales)
    smallest, *others = (72, (72, 104), (109, 75)) if unit == 1 else (5 * unit, (5 * unit, 9 * unit), (7 * unit, unit))
    return [smallest * scale, *((scale * height, scale * width) for height, width in others), backbone.input_size]


@cache
def without_values(name: str, levels: tuple[int, ...]) -> nn.Module:
    """The model on the meta device, which computes only shapes and uses no memory."""
    with torch.device("meta"):
        return load_backbone(find_backbone(name), levels, "random")


@pytest.mark.parametrize("name", backbone_names())
def test_shapes_are_those_of_the_model(name):
    backbone = find_backbone(name)
    every, own = tuple(sorted(backbone.taps)), backbone.levels
    for levels, sizes in {every: some_sizes(backbone), own: [backbone.input_size]}.items():
        model = without_values(name, levels)
        for size in sizes:
            found = [tuple(x.shape[1:]) for x in model(torch.empty(1, 3, *InputSize.of(size), device="meta"))]
            assert found == backbone.shapes(size, levels)
    assert found == backbone.shapes(backbone.input_size), "the last were the default levels at the default size"


@pytest.mark.parametrize("name", backbone_names())
def test_the_frozen_model_lets_gradients_pass_to_the_image(name):
    """With shapes alone, back from all levels at a time; with values, from each, in the smallest of its kind."""
    backbone = find_backbone(name)
    size = InputSize.of(some_sizes(backbone)[0])
    for model, device in models(name):
        assert not any(module.training for module in model.modules())
        x = torch.rand(1, 3, *size, device=device).requires_grad_()
        levels = model(x)
        assert all(level.requires_grad for level in levels)
        scores = [level[0, :, 0, 0].square().sum() / level.detach().square().max() for level in levels]
        if device == "meta":
            assert not scores or torch.autograd.grad(scores, x)[0].shape == x.shape
            continue
        for level, score in zip(levels, scores, strict=True):
            (gradient,) = torch.autograd.grad(score, x, retain_graph=True)
            assert torch.isfinite(level).all()
            assert torch.isfinite(gradient).all()
            assert gradient.abs().max() > 0
        assert all(p.grad is None and not p.requires_grad for p in model.parameters())


def models(name: str) -> Iterator[tuple[nn.Module, str]]:
    """The model without values, and with values where it is the smallest of its family and extractor."""
    backbone = find_backbone(name)
    yield without_values(name, backbone.levels), "meta"
    if name == smallest(family_of(name), backbone.extractor) and n_parameters(name) < 60_000_000:
        yield load_backbone(backbone, backbone.levels, "random"), "cpu"


@cache
def smallest(family: str, extractor: str) -> str:
    kind = (
        name for name in backbone_names() if (family_of(name), find_backbone(name).extractor) == (family, extractor)
    )
    return min(kind, key=n_parameters)


def n_parameters(name: str) -> int:
    return sum(parameter.numel() for parameter in without_values(name, find_backbone(name).levels).parameters())


@pytest.mark.parametrize("name", backbone_names())
def test_description_is_whole_and_agrees_with_the_libraries(name):
    backbone = find_backbone(name)
    assert set(backbone.levels) <= set(backbone.taps)
    assert backbone.interpolation in INTERPOLATIONS
    assert backbone.extractor in EXTRACTORS
    for network in networks(backbone):
        assert network.timm_name.count(".") == 1, "the weight tag is pinned"
        assert (network.mean, network.std) == (backbone.mean, backbone.std)
        if network.url is None:
            assert timm.is_model_pretrained(network.timm_name)
            config = timm.get_pretrained_cfg(network.timm_name)
            own = OTHER_INPUT.get(network.name, (config.mean, config.std))
            assert own == (network.mean, network.std)
            assert config.fixed_input_size == (network.fixed_size or network.patch > 1)
            assert not network.fixed_size or config.input_size == (3, network.input_size, network.input_size)


def test_unknown_names_and_levels_are_named():
    with pytest.raises(NfbenchError, match=r"unknown backbone 'resnet18'; did you mean 'resnet18.\w+'\?"):
        find_backbone("resnet18")
    with pytest.raises(NfbenchError, match=r"has levels \[0, 1, 2, 3, 4\], not \[7\]"):
        find_backbone("resnet18.tv_in1k").shapes(64, (1, 7))
    with pytest.raises(NfbenchError, match=r"'ms_cait' has levels \[0, 1\], not \[2\]"):
        load_backbone(find_backbone("ms_cait"), (2,), "random")

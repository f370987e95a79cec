"""Couplings that scale all volumes alike, in every method built of all-in-one steps, and normalizations that count."""

import math

import pytest
import torch
from scipy.stats import kendalltau

from nfbench.backbones._base import find_backbone
from nfbench.blocks.features import Features
from nfbench.blocks.method import LevelShape, build_method, build_to_count, count_parameters, resolve_settings
from nfbench.core.errors import NfbenchError
from nfbench.core.registry import plugin_names

METHODS = [name for name in plugin_names("nfbench.methods") if hasattr(resolve_settings(name), "coupling")]
SHAPES = [LevelShape(8, 8, 8), LevelShape(12, 4, 4), LevelShape(16, 2, 2)]
FITTED = {"normalization": "standardize"}


def build(name, shapes=SHAPES, **overrides):
    """A model away from its start, in float64."""
    model = build_method(name, shapes, resolve_settings(name, overrides={**FITTED, **overrides}), (32, 32), 0)
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
    return model.double().eval()


def draw(count, shapes=SHAPES, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return Features([torch.randn(count, *shape, generator=generator, dtype=torch.double) for shape in shapes])


def log_dets(model, features):
    """Of each image, ``(B,)``."""
    if hasattr(model, "latents"):
        return model.latents(features)[1]
    return sum(log_det.flatten(1).sum(1) for _, log_det in model.encode_levels(features.levels))


def test_all_methods_of_all_in_one_steps_take_it():
    assert {"fastflow", "uflow", "cflow", "nfad", "bgad", "hgad", "sanflow"} <= set(METHODS)


@pytest.mark.parametrize("coupling", ["affine", "additive", "gin"])
@pytest.mark.parametrize("name", METHODS)
def test_the_log_determinant_is_the_same_for_all_images(name, coupling):
    spread = log_dets(build(name, coupling=coupling), draw(6)).std()
    assert spread > 1e-2 if coupling == "affine" else spread < 1e-10


@pytest.mark.parametrize(
    ("name", "backbone", "size", "count"),
    [
        ("fastflow", "wide_resnet50_2.racm_in1k", 256, 27_568_128),
        ("uflow", "ms_cait", 448, 8_147_520),
        ("uflow", "wide_resnet50_2.racm_in1k", 448, 15_734_720),
        ("cflow", "wide_resnet50_2.tv_in1k", 256, 55_943_168),
    ],
)
def test_parameters_of_additive_flows(name, backbone, size, count):
    levels = (2, 3, 4) if name == "cflow" else None
    shapes = [LevelShape(*shape) for shape in find_backbone(backbone).shapes(size, levels)]
    settings = resolve_settings(name, backbone=backbone, overrides={**FITTED, "coupling": "additive"})
    assert count_parameters(build_to_count(name, shapes, settings, (size, size)))["flow"] == count


@pytest.mark.parametrize("name", METHODS)
def test_a_normalization_that_is_not_fitted_is_refused(name):
    default = resolve_settings(name).normalization
    with pytest.raises(NfbenchError, match="needs a fitted normalization"):
        resolve_settings(name, overrides={"coupling": "additive", "normalization": default})


@pytest.mark.parametrize("name", METHODS)
def test_standardized_features_have_one_likelihood_at_any_scale(name):
    """Fitted to features that are scaled and moved by channel, the flow sees the same values."""
    if name == "sanflow":
        pytest.skip("it reads the image too")
    train, moved = draw(8), [3 * x + torch.arange(float(x.shape[1])).view(1, -1, 1, 1) for x in draw(8).levels]
    found = []
    for levels in (train.levels, moved):
        model = build(name)
        features = Features(levels, classes=torch.zeros(8, dtype=torch.long))
        model.prepare(lambda features=features: [features])
        found.append(model.log_likelihood(features))
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("coupling", ["additive", "gin"])
def test_density_and_likelihood_order_positions_alike(coupling):
    """What separates the published map of FastFlow from its likelihood is the log-determinant alone."""
    features = draw(4, SHAPES[:1])
    features.levels[0].mul_(0.3)
    model = build("fastflow", SHAPES[:1], coupling=coupling)
    density, _ = model.level_maps(features)
    likelihood = [energy for energy, _ in model._encode_positions(features)]
    assert kendalltau(density[0].flatten().detach(), likelihood[0].flatten().detach()).statistic == 1


@pytest.mark.parametrize("name", ["fastflow", "uflow"])
@pytest.mark.parametrize(("normalization", "counted"), [("layer_norm", False), ("counted_layer_norm", True)])
def test_a_trained_scale_lowers_the_loss_unless_it_is_counted(name, normalization, counted):
    """LayerNorm's scales times c, the next scales divided by it: latents stay, and the loss changes by ``D ln c``."""
    model = build(name, normalization=normalization, flow_steps=1, **({} if name == "fastflow" else {"u_shape": False}))
    for part in model.flow.modules():
        if hasattr(part, "global_scale"):
            part.subnet[-1].weight.data.zero_(), part.subnet[-1].bias.data.zero_()
    for norm in model.normalization:
        norm.bias.data.zero_()
    features, factor = draw(3), 0.5
    before, latents = model.loss(features), model.latents(features)[0]
    for norm in model.normalization:
        norm.weight.data.mul_(factor)
    for part in model.flow.modules():
        if hasattr(part, "global_scale"):
            scale = part._scale().detach() / factor
            part._scale = lambda scale=scale: scale
    for z, same in zip(model.latents(features)[0], latents, strict=True):
        torch.testing.assert_close(z, same)
    expected = 0 if counted else model.dimensions * math.log(factor)
    assert (model.loss(features) - before).item() == pytest.approx(expected, abs=1e-6)


def test_counted_scales_are_in_the_map_of_likelihoods():
    features = draw(2)
    plain, counted = (
        build("fastflow", normalization=f"{prefix}layer_norm", score="likelihood") for prefix in ("", "counted_")
    )
    found = [model.level_maps(features)[0] for model in (plain, counted)]
    for norm, without, with_scales in zip(counted.normalization, *found, strict=True):
        torch.testing.assert_close(with_scales, without - norm.weight.abs().log().sum(0))
    torch.testing.assert_close(
        counted.loss(features), plain.loss(features) - sum(n.weight.abs().log().sum() for n in counted.normalization)
    )
